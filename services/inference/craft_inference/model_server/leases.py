"""The leases of callers, and the requests that are in progress under them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from craft.infra.ids import new_id


class Leases:
    """Leases by id. One that is not used for long ends, because its holder must be dead."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._used_at: dict[str, float] = {}
        self._in_flight: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._used_at)

    def __contains__(self, lease_id: str) -> bool:
        return lease_id in self._used_at

    def add(self) -> str:
        """The id of a new lease."""
        lease_id = new_id("lease")
        self._used_at[lease_id] = self._clock()
        return lease_id

    def end(self, lease_id: str) -> None:
        """End the lease; an unknown or ended one changes nothing."""
        self._used_at.pop(lease_id, None)

    def end_all(self) -> None:
        """End every lease."""
        self._used_at.clear()

    def touch(self, lease_id: str) -> None:
        """Note that the lease is used now, if it has not ended."""
        if lease_id in self._used_at:
            self._used_at[lease_id] = self._clock()

    @contextmanager
    def in_use(self, lease_id: str) -> Iterator[None]:
        """A request is in progress under the lease for the length of the block."""
        self._in_flight[lease_id] += 1
        try:
            yield
        finally:
            self._in_flight[lease_id] -= 1
            if not self._in_flight[lease_id]:
                del self._in_flight[lease_id]
            self.touch(lease_id)

    def expire(self, seconds: float) -> list[str]:
        """End those that were unused for so long, and give their ids."""
        now = self._clock()
        # A lease is in use while a long reply is generated under it.
        old = [
            lease_id
            for lease_id, used_at in self._used_at.items()
            if now - used_at > seconds and lease_id not in self._in_flight
        ]
        for lease_id in old:
            del self._used_at[lease_id]
        return old
