"""The sweep runs without a pause and lets nothing live for a second, while jobs run and workers are killed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.rig.databases import SqliteFile
from tests.chaos.rig.small import Small, small

from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.kinds import StageKind
from craft.infra.settings.coordinator import RetentionSettings

_DAYS = "0.000005"
"""Less than half a second."""
SETTINGS = {f"CRAFT_RETENTION__{name.upper()}": _DAYS for name in RetentionSettings.model_fields if "days" in name}
KILLS = 3
_OLD_SECONDS = 7200.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    state = tmp_path_factory.mktemp("swept") / "state"
    with small(state, SqliteFile(state), CRAFT_RETENTION__SWEEP_SECONDS="0.02", **SETTINGS) as made:
        yield made


def until_swept(system: Small) -> None:
    """Two whole rounds, by what nobody needs: an orphan, a checkpoint and scratch that are old enough, and go."""
    for number in range(2):
        scratch = system.store.scratch("nobody's")
        orphan = system.store.scratch("orphan")
        (orphan / "rows").write_text(str(number))
        key = f"{number:x}" * 64
        made = system.store.publish(
            orphan, key=key, kind=StageKind.SCORE, parameters={}, inputs={}, result=StageResult()
        )
        useless = [scratch, system.store.checkpoint(key), system.store.open(made.ref)]
        for path in [path for folder in useless for path in (*folder.rglob("*"), folder)]:
            # Whatever the settings say, young folders without a row stay: their reports may be on the way.
            os.utime(path, (time.time() - _OLD_SECONDS,) * 2)
        system.until(lambda folders=useless: not any(folder.exists() for folder in folders))  # type: ignore[misc]


def scratch_of(system: Small, stage_id: str) -> list[Path]:
    return list((system.state / "artifacts" / "tmp").glob(f"{stage_id}-{system.stage(stage_id).fence}-*"))


def test_nothing_that_a_job_needs_is_swept_while_its_workers_are_killed(system: Small) -> None:
    done = system.submit()
    system.begun(done)
    assert system.succeeded(done)
    stage_id = system.submit()
    for kill in range(1, KILLS):
        victim = system.begun(stage_id, attempts=kill)
        until_swept(system)
        # The attempt's own scratch, the checkpoint of the one before, and what jobs that have not ended have made.
        assert len(scratch_of(system, stage_id)) == 1
        victim.kill()
        until_swept(system)
        victim.start()
    system.begun(stage_id, attempts=KILLS)
    until_swept(system)
    assert system.succeeded(stage_id)
    until_swept(system)
    for stage, words in ((done, "after 0"), (stage_id, f"after {KILLS - 1}")):
        artifact = system.stage(stage).artifact
        assert artifact is not None
        assert (system.store.open(artifact) / "text").read_text().endswith(words)
    assert system.outcomes(stage_id) == ["failed"] * (KILLS - 1) + ["succeeded"]
