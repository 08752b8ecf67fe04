"""Turns on one processor."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from craft.errors import Unavailable
from craft.infra.worker.device import acquire_device, acquire_device_if_free, no_device_lock, release_device

HOLDING = """
import sys, threading
from pathlib import Path
from craft.infra.worker.device import turn_if_free
with turn_if_free(Path(sys.argv[1])) as had:
    print(had, flush=True)
    threading.Event().wait()
"""


def test_a_turn_is_had_by_one_at_a_time_and_passed_on(tmp_path: Path) -> None:
    turn = acquire_device(tmp_path / "state" / "device.lock")
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with turn(threading.Event()) as had:
            order.append(f"second {had}")

    with turn(threading.Event()) as had:
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        order.append(f"first {had}")
    thread.join(5)
    assert order == ["first True", "second True"]


def test_waiting_ends_when_told_to_stop(tmp_path: Path) -> None:
    turn = acquire_device(tmp_path / "device.lock")
    stopping = threading.Event()
    found: list[bool] = []

    def wait() -> None:
        with turn(stopping) as had:
            found.append(had)

    with turn(threading.Event()):
        thread = threading.Thread(target=wait)
        thread.start()
        stopping.set()
        thread.join(5)
    assert found == [False]


def test_a_processor_of_ones_own_is_always_free_until_told_to_stop() -> None:
    stopping = threading.Event()
    with no_device_lock(stopping) as had:
        assert had
    stopping.set()
    with no_device_lock(stopping) as had:
        assert not had


def test_a_turn_that_is_free_is_had_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "device.lock"
    with acquire_device_if_free(path) as had:
        assert had
        with acquire_device_if_free(path) as second:
            assert not second
    with acquire_device_if_free(path) as again:
        assert again


def test_a_turn_that_is_taken_is_not_waited_for_and_not_harmed(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"
    with acquire_device(path)(threading.Event()):
        with acquire_device_if_free(path) as had:
            assert not had
        with acquire_device_if_free(path) as had:
            assert not had
    with acquire_device_if_free(path) as had:
        assert had


def test_a_turn_is_given_back_where_its_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"
    with pytest.raises(ZeroDivisionError), acquire_device_if_free(path):
        raise ZeroDivisionError
    with acquire_device_if_free(path) as had:
        assert had


def test_a_killed_process_gives_its_turn_back(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with acquire_device_if_free(path) as had:
            assert not had
        other.kill()
        other.wait()
    with acquire_device_if_free(path) as had:
        assert had


class ModelServer:
    """Answers every POST with `status`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


def test_the_model_server_is_asked_for_the_device(model_server: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    release_device(model_server.url, SecretStr("sesame"))
    assert model_server.asked == [("/v1/release", "Bearer sesame")]
    assert caplog.records == []


@pytest.mark.parametrize("status", [401, 500])
def test_a_model_server_that_refuses_keeps_the_memory(model_server: ModelServer, status: int) -> None:
    model_server.status = status
    with pytest.raises(Unavailable, match="did not give up the device") as refused:
        release_device(model_server.url, SecretStr("sesame"))
    assert "sesame" not in str(refused.value)


def test_a_model_server_that_is_not_there_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        release_device("http://127.0.0.1:9", SecretStr("sesame"))
    assert [record.getMessage() for record in caplog.records] == ["no_model_server"]
