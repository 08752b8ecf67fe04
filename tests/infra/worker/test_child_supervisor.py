"""Real child processes: their messages, their deaths, and that no process of theirs remains."""

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.infra.worker.fakes import TOYS, environment, gone, report

from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.parameters import FlowParameters
from craft.errors import Fault
from craft.infra.process.memory import machine_memory_bytes
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Failed, Finished
from craft.infra.worker.child_process import ChildOutcome, Died, StageWork
from craft.infra.worker.child_supervisor import WarmChild, memory_limit_bytes

PATIENCE_SECONDS = 60
Start = Callable[..., "Recorder"]


class Recorder:
    """A listener that records all events."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progresses: queue.SimpleQueue[StageProgress] = queue.SimpleQueue()
        self.outcomes: queue.SimpleQueue[ChildOutcome] = queue.SimpleQueue()

    def on_progress(self, progress: StageProgress) -> None:
        self.progresses.put(progress)

    def on_log(self, line: str) -> None:
        self.lines.append(line)

    def on_outcome(self, outcome: ChildOutcome) -> None:
        self.outcomes.put(outcome)

    def outcome(self) -> ChildOutcome:
        return self.outcomes.get(timeout=PATIENCE_SECONDS)

    def progress(self) -> StageProgress:
        return self.progresses.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def child() -> Iterator[WarmChild]:
    child = WarmChild(TOYS, WorkerSettings(grace_seconds=0.5), environment=environment(CRAFT_WORKER_TOKEN="secret"))
    yield child
    child.close()


@pytest.fixture
def start(child: WarmChild, tmp_path: Path) -> Start:
    def begin(do: str, on: WarmChild = child, **job: object) -> Recorder:
        for name in ("output", "checkpoint"):
            (tmp_path / name).mkdir(exist_ok=True)
        recorder = Recorder()
        work = StageWork(report(do=do, **job), {}, tmp_path / "output", tmp_path / "checkpoint")
        on.start(work, recorder)
        return recorder

    return begin


def finished(recorder: Recorder) -> Finished:
    outcome = recorder.outcome()
    assert isinstance(outcome, Finished), outcome
    return outcome


def failed(recorder: Recorder) -> Failed:
    outcome = recorder.outcome()
    assert isinstance(outcome, Failed), outcome
    return outcome


def test_a_stage_writes_its_output_and_returns_its_result(start: Start, tmp_path: Path) -> None:
    recorder = start("write", text="hello")
    result = finished(recorder).result
    assert (tmp_path / "output" / "text").read_text() == "hello"
    assert result.cost.generated_tokens == 7
    assert recorder.lines == ["written", "to standard error"]


def test_a_stage_reads_its_inputs(child: WarmChild, tmp_path: Path) -> None:
    for name in ("a", "b", "output"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "text").write_text("1")
    (tmp_path / "b" / "text").write_text("2")
    recorder = Recorder()
    inputs = {"a": tmp_path / "a", "b": tmp_path / "b"}
    child.start(StageWork(report(do="write", text="3"), inputs, tmp_path / "output", tmp_path), recorder)
    finished(recorder)
    assert (tmp_path / "output" / "text").read_text() == "123"


def test_numbers_that_json_does_not_know_are_left_out_and_noted(start: Start) -> None:
    recorder = start("write")
    result = finished(recorder).result
    assert result.metrics == {"ok": 1.0}
    assert result.notes == ["The metric bad was not a finite number."]
    *_, last = [recorder.progress() for _ in range(recorder.progresses.qsize())]
    assert last == StageProgress(done=2, total=2)


def test_the_child_stays_warm_for_the_next_stage(start: Start, child: WarmChild) -> None:
    first = finished(start("write")).result.counts["pid"]
    assert finished(start("write")).result.counts["pid"] == first == child.pid


def test_the_child_outlives_the_thread_that_asked_for_it(start: Start) -> None:
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(lambda: finished(start("write"))).result(PATIENCE_SECONDS)
    assert finished(start("write")).result.counts["pid"] == first.result.counts["pid"]


def test_the_child_leads_a_process_group_of_its_own(start: Start) -> None:
    counts = finished(start("write")).result.counts
    assert counts["group"] == counts["pid"] != os.getpgrp()


def test_an_idle_child_ends_after_its_time(tmp_path: Path, start: Start) -> None:
    child = WarmChild(TOYS, WorkerSettings(grace_seconds=0.5, warm_seconds=0.05), environment=environment())
    pid = finished(start("write", on=child)).result.counts["pid"]
    assert gone(pid)
    assert child.pid is None
    assert finished(start("write", on=child)).result.counts["pid"] != pid
    child.close()


def test_progress_is_coalesced_and_the_last_one_always_arrives(start: Start) -> None:
    recorder = start("count")
    finished(recorder)
    seen = [recorder.progress().done for _ in range(recorder.progresses.qsize())]
    assert seen[-1] == 200_000
    assert seen == sorted(seen)
    assert len(seen) < 200


def test_every_line_arrives_before_the_outcome_without_control_characters(start: Start) -> None:
    recorder = start("babble")
    finished(recorder)
    assert recorder.lines[:3000] == [f"line {n}" for n in range(3000)]
    assert recorder.lines[3000:3003] == ["a", "b", "red bidi"]
    assert recorder.lines[3003].startswith("xxxx")
    assert all(len(line) <= 4000 for line in recorder.lines)
    assert recorder.lines[-1] == "\ufffd no line break"


def test_an_error_of_our_tree_travels_with_code_hint_and_places(start: Start) -> None:
    error = failed(start("refuse")).error
    assert (error.code, error.fault, error.hint, error.param) == ("dataset_invalid", Fault.USER, "Mend it.", "dataset")
    assert (error.errors[0].line, error.errors[0].field) == (3, "question")


def test_a_users_error_keeps_the_child_warm(start: Start, child: WarmChild) -> None:
    failed(start("refuse"))
    pid = child.pid
    assert pid is not None
    assert failed(start("short")).error.code == "rehearsal_too_short"
    assert child.pid == pid


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("defect", "internal"),
        ("no_memory", "host_oom"),
        ("full", "disk_full"),
        ("full_weights", "disk_full"),
        ("gpu", "gpu_oom"),
        ("device_fails", "device_failed"),
    ],
)
def test_other_failures_have_a_code_and_end_the_child(start: Start, child: WarmChild, do: str, code: str) -> None:
    recorder = start(do)
    outcome = failed(recorder)
    assert (outcome.error.code, outcome.error.fault, outcome.reusable) == (code, Fault.SYSTEM, False)
    assert child.pid is None
    assert any("Traceback" in line for line in recorder.lines)


def test_a_defect_names_itself(start: Start) -> None:
    recorder = start("defect")
    assert failed(recorder).error.message == "ValueError: a defect"
    assert any("toy_stages.py" in line for line in recorder.lines)


def test_more_memory_than_there_is_becomes_host_oom(start: Start) -> None:
    assert failed(start("ask_too_much")).error.code == "host_oom"


def test_a_child_that_holds_more_than_its_limit_is_killed(start: Start) -> None:
    limit = 2**30
    child = WarmChild(TOYS, WorkerSettings(memory_bytes=limit), environment=environment())
    died = start("hoard", on=child).outcome()
    child.close()
    assert isinstance(died, Died)
    assert (died.exit_signal, died.memory_limit_bytes) == (signal.SIGKILL, limit)


def test_addresses_that_a_child_only_reserves_as_cuda_does_do_not_count(start: Start) -> None:
    child = WarmChild(TOYS, WorkerSettings(memory_bytes=700 * 2**20), environment=environment())
    assert finished(start("reserve", on=child)).result.counts["bytes"] == 2**40
    child.close()


def test_pages_that_a_child_shares_with_its_own_processes_count_once(start: Start) -> None:
    child = WarmChild(TOYS, WorkerSettings(memory_bytes=700 * 2**20), environment=environment())
    assert finished(start("share", on=child)).result.counts["bytes"] > 0
    child.close()


def test_a_child_may_hold_four_fifths_of_the_machine_where_nothing_was_set() -> None:
    assert memory_limit_bytes(WorkerSettings()) == int((machine_memory_bytes() or 0) * 0.8)
    assert memory_limit_bytes(WorkerSettings(memory_bytes=2**30)) == 2**30


def test_the_kernel_kills_a_stage_before_any_other_process(start: Start) -> None:
    recorder = start("oom_score")
    finished(recorder)
    assert "1000" in recorder.lines


def test_a_stage_that_the_service_does_not_know_is_a_defect(child: WarmChild, tmp_path: Path) -> None:
    recorder = Recorder()
    child.start(StageWork(FlowParameters(), {}, tmp_path, tmp_path), recorder)
    assert "flow" in failed(recorder).error.message


def test_functions_that_cannot_be_imported_are_a_defect(start: Start) -> None:
    child = WarmChild("no_such_module:stage_functions", WorkerSettings(), environment=environment())
    assert "no_such_module" in failed(start("write", on=child)).error.message
    child.close()


def test_a_killed_child_is_reported_with_its_signal_and_memory(start: Start) -> None:
    recorder = start("die")
    died = recorder.outcome()
    assert isinstance(died, Died)
    assert (died.exit_signal, died.exit_code) == (signal.SIGKILL, None)
    assert 2**20 < died.peak_memory_bytes < 2**34
    assert recorder.lines == ["last words"]


def test_a_child_that_exits_is_reported_with_its_code(start: Start) -> None:
    died = start("exit").outcome()
    assert isinstance(died, Died)
    assert (died.exit_signal, died.exit_code) == (None, 3)


def test_after_a_death_the_next_stage_gets_a_new_child(start: Start) -> None:
    start("die").outcome()
    assert finished(start("write")).result.counts["pid"] > 0


def test_a_stage_that_ignores_sigterm_dies_with_what_it_started(start: Start, child: WarmChild) -> None:
    recorder = start("stubborn")
    pids = recorder.progress()
    child.kill()
    assert gone(pids.done)
    assert gone(pids.total)
    died = recorder.outcome()
    assert isinstance(died, Died)
    assert died.exit_signal == signal.SIGKILL


def test_a_stage_that_is_asked_to_end_may_save_what_it_has(start: Start, child: WarmChild, tmp_path: Path) -> None:
    recorder = start("long")
    recorder.progress()
    child.kill(grace_seconds=PATIENCE_SECONDS)
    assert (tmp_path / "checkpoint" / "saved").read_text() == "half"
    died = recorder.outcome()
    assert isinstance(died, Died)
    assert died.exit_code == 128 + signal.SIGTERM


def test_a_stage_in_the_middle_of_a_native_call_dies_when_the_grace_is_over(tmp_path: Path) -> None:
    began = tmp_path / "began"
    os.mkfifo(began)
    own = environment(TOY_DEED="numb", TOY_BEGAN=str(began))
    child = WarmChild("toy_stages:busy_functions", WorkerSettings(), environment=own)
    recorder = Recorder()
    child.start(StageWork(report(), {}, tmp_path, tmp_path), recorder)
    began.read_bytes()
    child.kill(grace_seconds=0.2)
    died = recorder.outcome()
    assert isinstance(died, Died)
    assert died.exit_signal == signal.SIGKILL
    child.close()


def test_the_child_gets_no_keys_and_starts_without_heavy_libraries(start: Start) -> None:
    recorder = start("environment")
    assert finished(recorder).result.notes == []
    assert recorder.lines == ["INFO toy: logged"]


PARENT = """
import sys, threading
from pathlib import Path
from craft.contracts.stages.parameters import ReportParameters
from craft.infra.settings.settings import WorkerSettings
from craft.infra.worker.child_process import StageWork
from craft.infra.worker.child_supervisor import WarmChild, memory_limit_bytes

class Listener:
    def on_progress(self, progress): print(progress.done, progress.total, flush=True)
    def on_log(self, line): print(line, file=sys.stderr, flush=True)
    def on_outcome(self, outcome): print(outcome, file=sys.stderr, flush=True)

folder = Path(sys.argv[1])
child = WarmChild("toy_stages:stage_functions", WorkerSettings())
parameters = ReportParameters(job={"do": sys.argv[2]}, task="open_ended", strategies=["craft"], seed=1)
# From a thread that ends at once: the child must live on.
thread = threading.Thread(target=child.start, args=(StageWork(parameters, {}, folder, folder), Listener()))
thread.start()
thread.join()
threading.Event().wait()
"""


def test_the_child_and_what_it_started_die_when_the_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), "stubborn"], stdout=subprocess.PIPE, env=environment()
    )
    assert parent.stdout is not None
    with parent.stdout:
        child_pid, other_pid = (int(n) for n in parent.stdout.readline().split())
        parent.kill()
        parent.wait(PATIENCE_SECONDS)
    assert gone(child_pid)
    if not gone(other_pid, 10):
        os.kill(other_pid, signal.SIGKILL)
        pytest.fail("a process that the stage had started lives on")
