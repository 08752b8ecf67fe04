"""What a worker and its child process say to one another: JSON frames on a socket pair. No pickles: a child that went
wrong can send nothing that runs in its parent.
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
_LONGEST_FRAME = 256 * 2**20


class RunStage(Contract):
    """Parent to child: do this. After its last log line the child writes `log_end` as a line of its own."""

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
    """Child to parent: the stage raised. `reusable` says whether the process may do another."""

    type: Literal["failed"] = "failed"
    error: StageError
    reusable: bool


ChildMessage = Annotated[Progressed | Finished | Failed, Field(discriminator="type")]
CHILD_MESSAGE: TypeAdapter[ChildMessage] = TypeAdapter(ChildMessage)


class Channel:
    """One end of the socket pair. Any thread may send; one thread receives."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._reader = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: Contract) -> None:
        """Raises OSError where the other end is gone."""
        body = message.model_dump_json().encode()
        with self._sending:
            self._socket.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    def receive(self) -> bytes | None:
        """The next frame's JSON, or None where the other end is gone or talks nonsense."""
        try:
            length = int.from_bytes(self._reader.read(_LENGTH_BYTES), "big")
            body = self._reader.read(length) if 0 < length <= _LONGEST_FRAME else b""
        except (OSError, ValueError):
            return None
        return body if body and len(body) == length else None

    def close(self) -> None:
        """The other end then receives None."""
        # Wakes a thread that still reads; closing alone would wait for it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._reader.close()
