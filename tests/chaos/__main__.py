"""Small real jobs through the real system, hurt at seeded random moments: python -m tests.chaos --help.

The system runs with the shipped cap of attempts and with the shipped times of leases, all scaled down together. The
short form is a test (`faults/test_short_form.py`), `make chaos` injects 120 faults, and
`make chaos ARGS='--faults 240 --jobs 24'` is the long form: about half an hour on two idle cores. `--seed` chooses
another order.

Exit code 1 where anything that must hold did not, or where a job was lost: accepted, and not succeeded through no fault
of its own.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from tests.chaos.faults.outcome import table
from tests.chaos.faults.run import RULES, SCALE, Options, Result, Say, run

DATABASES = ("sqlite", "postgresql")


def main(arguments: Sequence[str] | None = None, *, run: Callable[[Options, Say], Result] = run) -> int:
    """Run on each database asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=120, help="of all databases together")
    parser.add_argument("--jobs", type=int, default=12, help="at least so many on each database")
    parser.add_argument("--mean-seconds", type=float, default=4.0, help="mean pause between two faults")
    parser.add_argument("--database", choices=DATABASES, action="append", help="both by default")
    parser.add_argument("--keep", action="store_true", help="keep database, artifacts and logs")
    given = parser.parse_args(arguments)
    databases = tuple(given.database or DATABASES)
    print(f"seed {given.seed}", flush=True)
    fine = True
    for database in databases:
        options = Options(
            seed=given.seed,
            faults=given.faults // len(databases),
            jobs=given.jobs,
            database=database,
            mean_seconds=given.mean_seconds,
            keep=given.keep,
        )
        result = run(options, lambda line: print(line, flush=True))
        show(options, result)
        fine = fine and not (result.violations or result.lost)
    return 0 if fine else 1


def show(options: Options, result: Result) -> None:
    """Print the table, what was broken, and one line that says it all."""
    total = result.rows[-1]
    print(f"\n{table(result.rows)}")
    limit = RULES.lease_seconds + RULES.sweep_seconds
    print(
        "Seconds are median (most), from the fault on, until a victim's stage was ready and was claimed again; a claim "
        f"also waits for a free worker.\nA lease lasts {RULES.lease_seconds:g} s, and a lost one is seen within "
        f"{limit:g} s while a coordinator lives. Times of leases are the shipped ones times {SCALE:.3f};\n"
        f"the cap is the shipped one of {RULES.max_attempts} lost attempts in a row without progress."
    )
    for failure in result.failures:
        print(f"FAILED: {failure}")
    for death in result.deaths:
        print(f"ended by itself, and was started again: {death}")
    for violation in result.violations:
        print(f"BROKEN: {violation.invariant}: {violation.job_id} {violation.detail}")
    print(
        f"{options.database}, seed {options.seed}: {total.injected} faults; jobs: {result.accepted} accepted, "
        f"{total.succeeded} succeeded, {total.failed} failed, {total.lost} lost, {total.twice} done twice; "
        f"{total.recomputed} stages recomputed, {result.other_bytes} of them to other bytes, "
        f"{len(result.violations)} invariants broken, {result.seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    # So that a run that is stopped cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
