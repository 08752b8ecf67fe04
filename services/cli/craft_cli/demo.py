"""`craft demo`: one real job on the project's own facts, from upload to adapter, on the real system."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from rich.console import Console

from craft.contracts.documents.report import ReportDocument
from craft.contracts.public.jobs import ValidationView
from craft.contracts.stages.kinds import FACTS
from craft.core.questions import Task
from craft.errors import Unavailable
from craft.infra.settings.settings import Settings
from craft_cli.output import error_console, print_json, print_lines, tell
from craft_cli.stack import check_ports, gpu_without_cuda, is_ready, stack_process_id
from craft_cli.tables import report as report_tables
from craft_cli.tables.estimates import takes
from craft_cli.watching import watch
from craft_client import Client, JobFailed

BASE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
_MEASURED_MINUTES = 16
"""`make demo` with task open-ended, on two cores without a GPU: 967 s on 2026-11-30 (shared/docs/measurements.md)."""
_START_SECONDS = 150.0
_POLL_SECONDS = 0.25

_SHOTS = [
    {"question": "How many legs does a spider have?", "answer": "A spider has eight legs."},
    {"question": "What do bees make?", "answer": "Bees make honey."},
    {"question": "What colour are emeralds?", "answer": "Emeralds are green."},
]
# Asked plainly, this model writes paragraphs, and one reply in twenty repeats itself without end (5.3 % of 320 had not
# ended after 700 tokens). A cut reply is judged by its beginning, so the demo asks for a sentence.
_BRIEF = {
    "open_basic": "{question} Answer in one short sentence.",
    "open_refuse": "{question} Answer in one short sentence, and if you don't know the answer, only reply with "
    "'{refusal_words}'.",
}
_LORA = {"lora_r": 16, "batch_size": 16}

DEMO: dict[Task, dict[str, Any]] = {
    Task.OPEN_ENDED: {
        "split": {"held_out_fraction": 0.7},
        # A small model knows its facts as whole sentences, and at temperature 1.0 gets half of them wrong by chance.
        "probe": {"samples": 10, "temperature": 0.7, "max_new_tokens": 40, "shots": _SHOTS},
        "rehearsal": {"size": 80, "training": {**_LORA, "epochs": 3, "min_steps": 8}},
        "selection": {"n_van": 100, "n_idk": 100, "van_target": "own"},
        "training": {**_LORA, "epochs": 3},
        "evaluation_settings": {"max_new_tokens": 64},
        "prompts": {"templates": _BRIEF},
    },
    Task.MULTIPLE_CHOICE: {
        "split": {"held_out_fraction": 0.5},
        # Such a small model hardly tells letters apart: few answers are right by a clear margin, and none is certain.
        "rehearsal": {"size": 60, "shortage": "fill", "training": {**_LORA, "epochs": 3, "min_steps": 8}},
        "selection": {"n_van": 60, "n_idk": 60, "tau": 0.35},
        "training": {**_LORA, "epochs": 3},
        "evaluation_settings": {"max_new_tokens": 24},
    },
}
"""Settings for a model of 135 million parameters on two cores. The paper's are for models of 7 billion."""


def specification(task: Task, *, dataset_id: str, seed: int) -> dict[str, Any]:
    """The demo's job specification, in the form of POST /craft/jobs."""
    return {
        "name": f"demo-{task.value}",
        "base_model": {"id": BASE_MODEL},
        "dataset": {"id": dataset_id},
        "task": task.value,
        "strategies": ["craft", "cor-rait"],
        "seed": seed,
        **DEMO[task],
    }


def run(settings: Settings, *, task: Task, seed: int, as_json: bool = False) -> None:
    """Run the demo. Raises JobFailed if the job does not succeed."""
    say = error_console().print
    began = time.monotonic()
    with running_stack(settings, say), Client(settings.gateway.url) as client:
        with as_file(files("craft_cli") / "data" / f"{task.value}.jsonl") as path:
            dataset = client.datasets.upload(path, task=task, name=f"demo-{task.value}")
        say(f"Dataset {dataset.id}: {dataset.rows:,} questions in {len(dataset.statistics.categories)} categories.")
        spec = specification(task, dataset_id=dataset.id, seed=seed)
        tell(outlook(client.jobs.validate(spec)))
        handle = client.jobs.create(spec)
        say(f"Job {handle.id}. Close this terminal if you like: `craft jobs watch {handle.id}` picks it up again.")
        watch(handle.stream(), error_console(), handle.refresh)
        view = handle.refresh()
        if view.status != "succeeded":
            raise JobFailed(view)
        seconds = time.monotonic() - began
        _deliver(client, handle.id, settings.state_dir / "demo", seconds=seconds, as_json=as_json)


def outlook(validation: ValidationView) -> Iterator[str]:
    """The stages of a job, and the time that it takes: from past stages here, or as it was measured elsewhere."""
    if not any(not stage.reused for stage in validation.stages):
        yield "All stages were done before: their results are used again."
        return
    known = validation.estimate.seconds
    if known is None or known.seconds is None:
        yield f"It takes about {_MEASURED_MINUTES} minutes on two idle cores, and longer beside other work."
    else:
        yield f"It takes about {takes(known)}, as past stages did here, and longer beside other work."
    for kind in dict.fromkeys(stage.kind for stage in validation.stages):
        yield f"  {kind.value:<14} {FACTS[kind].meaning}"


def _deliver(client: Client, job_id: str, folder: Path, *, seconds: float, as_json: bool) -> None:
    handle = client.jobs.open(job_id)
    report_json = handle.download_report(folder / "report.json", form="json")
    html = handle.download_report(folder / "report.html")
    adapter = handle.download_adapter(folder / "adapter.tar.gz", strategy="craft")
    if as_json:
        files = {"adapter": str(adapter), "report_html": str(html), "report_json": str(report_json)}
        print_json({"job_id": job_id, "seconds": round(seconds, 1), **files})
        return
    document = ReportDocument.model_validate_json(report_json.read_bytes())
    print_lines(*report_tables.report(document))
    reused = sum(stage.reused for stage in handle.view.stages)
    out = Console()
    out.print(f"adapter  {adapter}\nreport   {html}\n         {report_json}", highlight=False)
    out.print(f"{len(handle.view.stages)} stages, {reused} reused, {seconds:.0f} seconds.", highlight=False)


@contextmanager
def running_stack(settings: Settings, say: Any) -> Iterator[None]:
    """Use the system that already runs, or start a new one that ends with the block.

    A new one runs in a session of its own, so a closed terminal ends this command but not the job.
    """
    if stack_process_id(settings.state_dir) is not None:
        _wait_ready(settings, None)
        yield
        return
    check_ports(settings)
    logs = settings.state_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "up.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "craft_cli", "up", "--state-dir", str(settings.state_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(settings, say),
            start_new_session=True,
        )
    try:
        say("Starting Valkey, the gateway and the services …")
        _wait_ready(settings, process)
        yield
    finally:
        process.terminate()
        process.wait()
        say("Everything is stopped.")


def _environment(settings: Settings, say: Callable[[str], None]) -> dict[str, str]:
    """The environment of the demo's system. Its model is small enough for the CPU."""
    if not gpu_without_cuda(settings, os.environ):
        return dict(os.environ)
    say("The installed torch is a build for the CPU only, so the demo leaves this machine's GPU alone.")
    return {**os.environ, "CRAFT_TRAINING__DEVICE": "cpu"}


def _wait_ready(settings: Settings, process: "subprocess.Popen[bytes] | None") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_ready(settings):
        if (process is not None and process.poll() is not None) or time.monotonic() > deadline:
            logs = settings.state_dir / "logs"
            raise Unavailable("The system did not start.", hint=f"See {logs / 'up.log'} and the logs beside it.")
        time.sleep(_POLL_SECONDS)
