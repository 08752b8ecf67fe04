"""Runs the command in a terminal of 80 columns."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

COLUMNS = 80


def in_terminal(*words: str, columns: int = COLUMNS, **environment: str) -> list[str]:
    """The lines that a command writes to a terminal of this width, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    whole = os.environ | {"XDG_CONFIG_HOME": "/nonexistent", "TERM": "xterm", "NO_COLOR": "1"} | environment
    whole.pop("COLUMNS", None)
    command = [sys.executable, "-m", "craft_cli", *words]
    with subprocess.Popen(command, env=whole, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        written = _read_all(ours)
        process.wait()
    os.close(ours)
    return written.decode().splitlines()


def _read_all(descriptor: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except OSError:
            # The other end of a terminal that is closed is an error on Linux.
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
