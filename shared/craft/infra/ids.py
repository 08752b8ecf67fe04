"""Identifiers that sort by time: a prefix and a ULID in lower-case Crockford base 32, as contracts/base.py defines."""

import base64
import secrets
import threading
import time
from collections.abc import Callable

_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")
_LENGTH = 26
_RANDOM_BITS = 80
_MAX_VALUE = 2 ** (48 + _RANDOM_BITS) - 1


class IdSource:
    """Makes ids that increase within a process, even inside one millisecond or when the clock steps back."""

    def __init__(
        self,
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._clock_ms = clock_ms
        self._random_bits = random_bits
        self._last = 0
        self._lock = threading.Lock()

    def new(self, prefix: str) -> str:
        """`prefix_` and 26 characters: 48 bits of milliseconds since 1970, then 80 random bits."""
        with self._lock:
            fresh = (self._clock_ms() << _RANDOM_BITS) | self._random_bits(_RANDOM_BITS)
            # Where the clock does not increase, adding one to the last id keeps the order; a millisecond has 2**80 ids.
            self._last = min(max(fresh, self._last + 1), _MAX_VALUE)
            return f"{prefix}_{_encode(self._last)}"


def _encode(number: int) -> str:
    # Two zero bits and the 128 bits are 26 digits of 5 bits; the bits after them fill the last byte.
    return base64.b32encode((number << 6).to_bytes(17)).translate(_CROCKFORD)[:_LENGTH].decode()


_source = IdSource()


def new_id(prefix: str) -> str:
    """A new id such as `cjob_01j…` from the process's own source."""
    return _source.new(prefix)
