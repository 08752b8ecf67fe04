"""The messages between a worker and its child process: JSON frames on a socket pair.

There are no pickles: a compromised child can send nothing that runs in its parent.
"""

import contextlib
import socket
import threading
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from craft.contracts.base import Contract
from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.parameters import StageParameters

_LENGTH_BYTES = 4
_MAX_FRAME_LENGTH = 256 * 2**20


class RunStage(Contract):
    """Parent to child: run this stage. After the last log line the child prints `log_end` as a separate line."""

    parameters: StageParameters
    inputs: dict[str, str]
    output: str
    checkpoint: str
    log_end: str


class Progressed(Contract):
    """Child to parent: the stage's latest progress."""

    type: Literal["progressed"] = "progressed"
    progress: StageProgress


class Finished(Contract):
    """Child to parent: the output folder is complete."""

    type: Literal["finished"] = "finished"
    result: StageResult


class Failed(Contract):
    """Child to parent: the stage failed. `reusable` says whether the process may run another stage."""

    type: Literal["failed"] = "failed"
    error: StageError
    reusable: bool


ChildMessage = Annotated[Progressed | Finished | Failed, Field(discriminator="type")]
CHILD_MESSAGE: TypeAdapter[ChildMessage] = TypeAdapter(ChildMessage)


class Channel:
    """One end of the socket pair. Any thread may send; only one thread receives."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._reader = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: Contract) -> None:
        """Send a message. Raises OSError if the other end is closed."""
        body = message.model_dump_json().encode()
        with self._sending:
            self._socket.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    def receive(self) -> bytes | None:
        """The JSON of the next frame, or None if the other end is closed or the frame is invalid."""
        try:
            length = int.from_bytes(self._reader.read(_LENGTH_BYTES), "big")
            body = self._reader.read(length) if 0 < length <= _MAX_FRAME_LENGTH else b""
        except (OSError, ValueError):
            return None
        return body if body and len(body) == length else None

    def close(self) -> None:
        """Close this end; the other end then receives None."""
        # Shutdown wakes up a thread that still reads; close alone would wait for it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._reader.close()
