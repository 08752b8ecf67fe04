"""The peak of a process's memory is that of a stage and not of what was before it."""

import subprocess
import sys

from craft.infra.process.peak_memory import peak_bytes

MIB = 2**20
SCRIPT = """
from craft.infra.process.peak_memory import forget_peak, peak_bytes
before = bytearray(256 * 2**20)
for place in range(0, len(before), 4096):
    before[place] = 1
with_before = peak_bytes()
del before
forget_peak()
later = bytearray(64 * 2**20)
for place in range(0, len(later), 4096):
    later[place] = 1
print(with_before, peak_bytes())
"""


def test_what_a_process_had_before_does_not_count() -> None:
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    with_before, later = map(int, shown.split())
    assert with_before > 256 * MIB
    assert 64 * MIB < later < with_before - 128 * MIB


def test_this_process_has_some() -> None:
    assert peak_bytes() > 5 * MIB
