"""The lock on a shared device."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from craft.errors import DeviceFailed, Unavailable
from craft.infra.device.report import DeviceReport
from craft.infra.worker.device import (
    acquire_device_if_free,
    device_lock,
    model_servers_device,
    no_device_lock,
    release_device,
)

LOCK_HOLDER = """
import sys, threading
from pathlib import Path
from craft.infra.worker.device import acquire_device_if_free
with acquire_device_if_free(Path(sys.argv[1])) as acquired:
    print(acquired, flush=True)
    threading.Event().wait()
"""


def test_one_holder_at_a_time_has_the_lock_and_the_next_one_gets_it(tmp_path: Path) -> None:
    lock = device_lock(tmp_path / "state" / "device.lock")
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with lock(threading.Event()) as acquired:
            order.append(f"second {acquired}")

    with lock(threading.Event()) as acquired:
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        order.append(f"first {acquired}")
    thread.join(5)
    assert order == ["first True", "second True"]


def test_waiting_ends_at_a_stop(tmp_path: Path) -> None:
    lock = device_lock(tmp_path / "device.lock")
    stopping = threading.Event()
    outcomes: list[bool] = []

    def wait() -> None:
        with lock(stopping) as acquired:
            outcomes.append(acquired)

    with lock(threading.Event()):
        thread = threading.Thread(target=wait)
        thread.start()
        stopping.set()
        thread.join(5)
    assert outcomes == [False]


def test_without_a_shared_device_the_lock_is_always_free_until_a_stop() -> None:
    stopping = threading.Event()
    with no_device_lock(stopping) as acquired:
        assert acquired
    stopping.set()
    with no_device_lock(stopping) as acquired:
        assert not acquired


def test_a_free_lock_is_acquired_and_released(tmp_path: Path) -> None:
    path = tmp_path / "state" / "device.lock"
    with acquire_device_if_free(path) as acquired:
        assert acquired
        with acquire_device_if_free(path) as second:
            assert not second
    with acquire_device_if_free(path) as again:
        assert again


def test_a_taken_lock_is_neither_waited_for_nor_released(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"
    with device_lock(path)(threading.Event()):
        with acquire_device_if_free(path) as acquired:
            assert not acquired
        with acquire_device_if_free(path) as acquired:
            assert not acquired
    with acquire_device_if_free(path) as acquired:
        assert acquired


def test_the_lock_is_released_where_its_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"
    with pytest.raises(ZeroDivisionError), acquire_device_if_free(path):
        raise ZeroDivisionError
    with acquire_device_if_free(path) as acquired:
        assert acquired


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "device.lock"
    with subprocess.Popen([sys.executable, "-c", LOCK_HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with acquire_device_if_free(path) as acquired:
            assert not acquired
        other.kill()
        other.wait()
    with acquire_device_if_free(path) as acquired:
        assert acquired


class ModelServer:
    """Answers every request with `status` and `body`, and records the requests."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            do_GET = do_POST  # noqa: N815 - the server's own name

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


def test_without_a_model_server_no_memory_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        release_device("http://127.0.0.1:9", SecretStr("sesame"))
    assert [record.getMessage() for record in caplog.records] == ["no_model_server"]


def test_vllms_device_is_the_model_servers_to_test(model_server: ModelServer) -> None:
    model_server.body = DeviceReport(name="NVIDIA H200").model_dump_json().encode()
    assert model_servers_device(model_server.url, SecretStr("sesame")).name == "NVIDIA H200"
    assert model_server.asked == [("/v1/device", "Bearer sesame")]
    model_server.body = DeviceReport(failure="CUDA error: uncorrectable ECC").model_dump_json().encode()
    with pytest.raises(DeviceFailed, match="uncorrectable ECC"):
        model_servers_device(model_server.url, SecretStr("sesame"))


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (500, b""), (200, b"no report")])
def test_a_model_server_that_cannot_tell_keeps_no_worker_out(
    model_server: ModelServer, status: int, body: bytes
) -> None:
    model_server.status, model_server.body = status, body
    assert model_servers_device(model_server.url, SecretStr("sesame")) == DeviceReport()
    assert model_servers_device("http://127.0.0.1:9", SecretStr("sesame")) == DeviceReport()
