"""Taking turns on one processor: workers of several services on one machine compute one at a time.

Two processes that both use all cores are not half as fast each but an eighth: their threads spin at barriers that the
other one's threads hold up. On one GPU they would run out of memory instead.
"""

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_LOOK_SECONDS = 0.05

Turn = Callable[[threading.Event], AbstractContextManager[bool]]
"""Given what says "stop waiting": a context whose value is whether the turn was had."""


def turn_on(path: Path) -> Turn:
    """Turns by a lock on this file; the kernel frees it with the process that holds it, however that ends."""

    @contextmanager
    def turn(stopping: threading.Event) -> Iterator[bool]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            while not stopping.is_set():
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    stopping.wait(_LOOK_SECONDS)
                else:
                    yield True
                    return
            yield False

    return turn


@contextmanager
def always(stopping: threading.Event) -> Iterator[bool]:
    """A processor of one's own."""
    yield not stopping.is_set()
