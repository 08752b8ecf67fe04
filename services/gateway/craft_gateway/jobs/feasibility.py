"""Refuses settings with which a job surely fails or surely wastes its hours: pure functions, before anything runs."""

from collections.abc import Iterator
from typing import NamedTuple

from craft.contracts.spec.jobs import JobSpec, TrainingSettings
from craft.core.strategies import Shortage
from craft.errors import DatasetInvalid, RequestInvalid
from craft.infra.models.shape import ModelShape
from craft_gateway.estimates.bounds import max_trained, optimiser_steps

_TIED = frozenset({"lm_head", "embed_out", "embed_tokens", "embed_in", "wte"})
"""The names of output heads and input embeddings, which are one matrix where they are tied."""
_NEVER = 0.01
"""A side of the split with fewer expected rows is empty in more than 99 of 100 splits."""


class _Run(NamedTuple):
    """A tuning of the job, by the path of its settings."""

    path: str
    training: TrainingSettings


def _runs(spec: JobSpec) -> Iterator[_Run]:
    yield _Run("training", spec.training)
    if any(strategy.needs_flow for strategy in spec.strategies):
        yield _Run("rehearsal.training", spec.rehearsal.training)


def check_tied_head(spec: JobSpec, shape: ModelShape) -> None:
    """Raises RequestInvalid for an adapter on a head or an embedding that are one matrix in this model.

    Trained, the adapter changes one use of the matrix; merged for serving, it changes both.
    """
    if not shape.tied:
        return
    for path, training in _runs(spec):
        wanted = () if training.target_modules == "all-linear" else training.target_modules
        for name in wanted:
            if name.rpartition(".")[2] in _TIED:
                raise RequestInvalid(
                    f"{name[:80]} cannot be adapted: this model's output head and input embedding are one matrix.",
                    hint=f"Name linear layers only in {path}.target_modules, or leave it at all-linear.",
                    param=f"{path}.target_modules",
                )


def check_rank(spec: JobSpec, shape: ModelShape) -> None:
    """Raises RequestInvalid for a rank that was asked for and that no adapted matrix can have."""
    for path, training in _runs(spec):
        sides = [min(size) for name, size in shape.matrices.items() if shape.is_adapted(name, training)]
        largest = max(sides, default=0)
        if "lora_r" in training.model_fields_set and sides and training.lora_r > largest:
            raise RequestInvalid(
                f"Rank {training.lora_r} is above {largest}, the rank of the largest adapted matrix.",
                hint=f"Set {path}.lora_r to {largest} at most: more costs memory and time, and changes nothing.",
                param=f"{path}.lora_r",
            )


def check_split(spec: JobSpec, questions: int) -> None:
    """Raises DatasetInvalid if one side of the split would be empty."""
    fraction = spec.split.held_out_fraction
    for side, expected in (("held out", questions * fraction), ("left for training", questions * (1 - fraction))):
        if expected < _NEVER:
            raise DatasetInvalid(
                f"Of {questions:,} rows, none would be {side} at a fraction of {fraction:g}.",
                hint="Both sides need rows: choose split.held_out_fraction between 0.05 and 0.5.",
                param="split.held_out_fraction",
            )


def check_counts(spec: JobSpec, questions: int) -> None:
    """Raises RequestInvalid for numbers of questions or steps that the training split cannot give."""
    trained = max_trained(spec, questions)
    steps = optimiser_steps(spec.training, trained)
    if steps < spec.training.min_steps:
        raise RequestInvalid(
            f"Tuning on at most {trained:,} questions takes {steps:,} optimiser steps; training.min_steps asks for "
            f"{spec.training.min_steps:,}.",
            hint="Lower training.min_steps or training.batch_size, raise training.epochs, or add data.",
            param="training.min_steps",
        )
    selection = spec.selection
    if selection.shortage is Shortage.ERROR:
        for param, count in (
            ("selection.n_van", selection.n_van),
            ("selection.n_idk", selection.n_idk),
            ("selection.n_van", (selection.n_van or 0) + (selection.n_idk or 0)),
        ):
            _check_count(param, count, trained)
    if spec.rehearsal.shortage is Shortage.ERROR and any(strategy.needs_flow for strategy in spec.strategies):
        _check_count("rehearsal.size", spec.rehearsal.size, trained)


def _check_count(param: str, count: int | None, trained: int) -> None:
    if count is not None and count > trained:
        raise RequestInvalid(
            f"{count:,} questions are asked for; the training split has at most {trained:,}.",
            hint='Ask for fewer, add data, or let "shortage" be "shrink".',
            param=param,
        )
