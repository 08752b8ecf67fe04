"""Statuses of a job: which of them wait, run, pause or have ended."""

import pytest
from pydantic import ValidationError

from craft.contracts.spec.jobs import JobStatus, Quantization, RehearsalSettings, TrainingSettings


def test_workers_take_stages_of_jobs_that_are_queued_or_run() -> None:
    assert {status.value for status in JobStatus if status.schedulable} == {"queued", "running"}


def test_a_begun_job_takes_a_slot_of_its_team_until_its_workers_have_stopped() -> None:
    assert {status.value for status in JobStatus if status.counts_as_running} == {"running", "pausing", "cancelling"}


def test_a_pause_is_asked_for_before_it_is_there() -> None:
    assert {status.value for status in JobStatus if status.pause_requested} == {"pausing", "paused"}


def test_queued_and_paused_jobs_wait_without_a_worker() -> None:
    assert {status.value for status in JobStatus if status.waits} == {"queued", "paused"}


def test_no_ended_job_is_anything_else() -> None:
    ended = [status for status in JobStatus if status.terminal]
    assert {status.value for status in ended} == {"succeeded", "failed", "cancelled"}
    assert not any(s.schedulable or s.counts_as_running or s.pause_requested or s.waits for s in ended)


def test_rehearsal_is_on_the_weights_that_are_served() -> None:
    quantized = TrainingSettings(quantization=Quantization.NF4)
    assert quantized.model_dump(mode="json")["quantization"] == "nf4"
    with pytest.raises(ValidationError, match="rehearse on the weights that are served"):
        RehearsalSettings(training=quantized)


def test_a_layer_is_adapted_once() -> None:
    assert TrainingSettings(target_modules=["q_proj", "k_proj"]).target_modules == ["q_proj", "k_proj"]
    with pytest.raises(ValidationError, match="name each of target_modules once"):
        TrainingSettings(target_modules=["q_proj", "q_proj"])
