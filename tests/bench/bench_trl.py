"""The product's tuning against TRL's SFTTrainer on SmolLM2-135M-Instruct, on this machine.

    PYTHONPATH=.craft/trl python -m tests.bench.bench_trl [--steps 12] [--dtype bfloat16]

Rows are random tokens with the lengths of the demo's rows. Ends with 1 if TRL is faster.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.gpu.measurements.against_trl import Race, race_checks
from tests.gpu.rig.checks import Bench, run_check
from tests.gpu.rig.table import CheckReport, printed

from craft.contracts.stages.parameters import TrainerRef
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.training import TrainingServiceSettings
from craft_training.base_models import BaseModel, BaseModels

ROOT = Path(__file__).parents[2]
MODELS = Path(os.environ.get("CRAFT_MODELS_DIR") or ROOT / ".craft" / "models")
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def load(trainer: TrainerRef) -> BaseModel:
    """A model of its own for each run: TRL changes the one that it gets."""
    folders = ModelFolders(MODELS)
    return BaseModels(folders, TrainingServiceSettings(device="cpu")).get(folders.find(MODEL, "main").ref, trainer)


def main() -> int:
    """Run the race and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench("cpu", small=True, scratch=Path(scratch))
        race = Race(bench, partial(load, TrainerRef(dtype=arguments.dtype)), steps=arguments.steps)
        rows = [run_check(MODEL, check) for check in race_checks(race)]
    report = CheckReport(machine="CPU", form=arguments.dtype, seconds=sum(row.seconds for row in rows), rows=rows)
    print(printed(report))
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
