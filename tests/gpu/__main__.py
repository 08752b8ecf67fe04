"""Check the training service on a bare GPU machine without network, and print one table of measurements and bounds.

    PYTHONPATH=shared:services/training python3 -m tests.gpu [--out FOLDER] [--wheels FOLDER] [--only GROUP …]

Run it from the repository's root, with any Python of 3.11 or later that has torch and numpy, and pyarrow for the
comparison with TRL. All other packages may come as wheels: `make gpu-wheels` gathers them on a machine with network,
and `--wheels` names their folder here. Models are made from configurations with random weights. On a GPU the checks
take at most 8 minutes and about 60 GiB of its memory; without one they run in a small form of a few minutes. Ends with
1 if a bound is broken.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.gpu.rig.wheels import install_wheels


def main(words: Sequence[str]) -> int:
    """Run every group in a process of its own; print and write the table."""
    arguments = _parser().parse_args(words)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        if arguments.wheels:
            install_wheels(arguments.wheels, Path(scratch) / "packages")
        # Imported here because the wheels may hold what these need.
        from tests.gpu.rig.groups import run_groups
        from tests.gpu.rig.table import CheckReport, printed, write

        began = time.perf_counter()
        run = run_groups(arguments.only, small=arguments.small, scratch=Path(scratch))
        report = CheckReport(machine=run.machine, form=run.form, seconds=time.perf_counter() - began, rows=run.rows)
        print(printed(report))
        if arguments.out:
            write(report, arguments.out)
    return 1 if report.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write gpu-check.json and gpu-check.md into this folder")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels; they are unpacked into a temporary folder")
    parser.add_argument("--small", action="store_true", help="small shapes, also on a GPU")
    parser.add_argument("--only", nargs="+", default=[], metavar="GROUP", help="run only these groups")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
