"""Tuning and answering alone and beside one busy process: samples and tokens per second, in one run.

    python -m tests.bench.bench_threads [--seconds 15] [--spins 300 1000 3000]

Threads of a CPU wait for each other many times a second. Where they spin while they wait, a busy neighbour stops them
all for its whole time slice; where they sleep at once, the wake-ups cost time when nobody else is there. The bench
measures the libraries' own waiting (`as they come`) and the product's, and ends with 1 if a bound does not hold.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from craft.infra.process.compute_threads import with_short_spins

ROOT = Path(__file__).parents[2]
QUESTIONS = ROOT / "services" / "cli" / "craft_cli" / "data" / "open_ended.jsonl"
MODELS = Path(os.environ.get("CRAFT_MODELS_DIR") or ROOT / ".craft" / "models")
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WORKS = ("tune", "answer")
MAX_SLOWDOWN, MIN_SPEED = 2.0, 0.75
"""Beside one busy process it takes at most twice as long; alone it keeps three quarters of the libraries' speed."""


class Speeds(NamedTuple):
    """Work per second alone and beside a busy process."""

    alone: float
    busy: float


def tuned_per_second(seconds: float) -> float:
    """Samples per second of the product's own tuning, for about this time."""
    from craft.contracts.spec.jobs import TrainingSettings
    from craft.contracts.stages.parameters import TrainerRef
    from craft.contracts.stages.rows import ChatMessage, TrainingKind, TrainingRow
    from craft.core.prompts import DEFAULT_TEMPLATES, PromptMode, answer_messages
    from craft.core.questions import OpenQuestion
    from craft.infra.models.folders import ModelFolders
    from craft.infra.settings.training import TrainingServiceSettings
    from craft.infra.stage.context import StopRequest
    from craft_training.base_models import BaseModels
    from craft_training.tuning.samples import tokenise
    from craft_training.tuning.tuning import TuningRun, tune

    folders = ModelFolders(MODELS)
    base = BaseModels(folders, TrainingServiceSettings()).get(
        folders.find(MODEL, "main").ref, TrainerRef(dtype="bfloat16")
    )
    rows = []
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines()[:1600]:
        row = json.loads(line)
        question = OpenQuestion(row["id"], row["question"], tuple(row["answers"]))
        turns = answer_messages(question, PromptMode.REFUSE, DEFAULT_TEMPLATES)
        messages = [ChatMessage(role=turn.role, content=turn.content) for turn in turns]
        rows.append(TrainingRow(id=question.id, kind=TrainingKind.VAN, messages=messages, target=question.answers[0]))
    settings = TrainingSettings(epochs=1)
    samples = tokenise(rows, base.chat, max_length=2048).samples
    stamps: list[float] = []

    def on_step(*_: object) -> None:
        stamps.append(time.perf_counter())
        if stamps[-1] - stamps[0] > seconds and len(stamps) > 2:
            raise _EnoughMeasured

    with tempfile.TemporaryDirectory() as folder, suppress(_EnoughMeasured):
        tune(
            base,
            TuningRun(samples, settings, seed=1),
            adapter=Path(folder) / "adapter",
            checkpoints=Path(folder) / "checkpoints",
            checkpoint_seconds=1e9,
            on_step=on_step,
            on_saved=lambda: None,
            stop=StopRequest(),
        )
    return (len(stamps) - 1) * settings.batch_size / (stamps[-1] - stamps[0])


def answered_per_second(seconds: float) -> float:
    """Generated tokens per second of the embedded engine's greedy answers, for about this time."""
    from craft.core.prompts import DEFAULT_TEMPLATES, PromptMode, answer_messages
    from craft.core.questions import OpenQuestion
    from craft_inference.embedded.engine import TransformersEngine
    from craft_inference.engine import Prompt, Sampling
    from craft_training.base_models import BaseModels  # noqa: F401 - the same libraries as in the other measurement

    prompts = []
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines()[:640]:
        row = json.loads(line)
        question = OpenQuestion(row["id"], row["question"], tuple(row["answers"]))
        prompts.append(Prompt(question.id, tuple(answer_messages(question, PromptMode.REFUSE, DEFAULT_TEMPLATES))))
    engine = TransformersEngine.load(MODELS / MODEL)
    sampling = Sampling(max_new_tokens=16, samples=1, temperature=0.0, seed=42)
    engine.generate(prompts[:2], sampling)
    began, tokens, at = time.perf_counter(), 0, 0
    while time.perf_counter() - began < seconds and at < len(prompts):
        tokens += engine.generate(prompts[at : at + 32], sampling).usage.generated_tokens
        at += 32
    return tokens / (time.perf_counter() - began)


class _EnoughMeasured(Exception):
    """Ends a run that was measured long enough."""


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """One process that uses a whole core."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


def measured(work: str, environment: Mapping[str, str], *, seconds: float) -> float:
    """The work per second of a process with this environment."""
    command = [sys.executable, "-m", "tests.bench.bench_threads", "--measure", work, "--seconds", str(seconds)]
    done = subprocess.run(command, env=dict(environment), cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def speeds(work: str, environment: Mapping[str, str], *, seconds: float, rounds: int) -> Speeds:
    """The medians over `rounds`, alone and beside the busy process in turn."""
    alone, busy = [], []
    for _ in range(rounds):
        alone.append(measured(work, environment, seconds=seconds))
        with busy_neighbour():
            busy.append(measured(work, environment, seconds=seconds))
    return Speeds(median(alone), median(busy))


def main() -> int:
    """Print the speeds; 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--spins", type=int, nargs="*", default=[], help="further values of GOMP_SPINCOUNT to compare")
    parser.add_argument("--measure", choices=WORKS, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        print({"tune": tuned_per_second, "answer": answered_per_second}[words.measure](words.seconds))
        return 0
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_", "KMP_"))}
    environments = {"as they come": plain, "product": with_short_spins(plain)}
    environments |= {f"spin {spin}": {**plain, "GOMP_SPINCOUNT": str(spin)} for spin in words.spins}
    failed = False
    for work in WORKS:
        found = {
            name: speeds(work, each, seconds=words.seconds, rounds=words.rounds) for name, each in environments.items()
        }
        ours, theirs = found["product"], found["as they come"]
        for name, each in found.items():
            print(
                f"{work:7} {name:13} alone {each.alone:7.2f}/s · beside one busy process {each.busy:7.2f}/s", flush=True
            )
        slower, kept = ours.alone / ours.busy, ours.alone / theirs.alone
        print(
            f"{work:7} beside {slower:.2f} times as long (≤ {MAX_SLOWDOWN}) · "
            f"alone {kept:.2f} of the speed (≥ {MIN_SPEED})"
        )
        failed |= slower > MAX_SLOWDOWN or kept < MIN_SPEED
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
