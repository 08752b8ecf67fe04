"""The service's stages: rehearse, tune, package."""

from importlib.metadata import version

from craft.contracts.findings import findings_of
from craft.contracts.spec.jobs import Quantization, TrainingSettings
from craft.contracts.stages.artifacts import Cost, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import PackageParameters, RehearseParameters, TuneParameters
from craft.contracts.stages.rows import ADAPTER_FOLDER, CURVE_FILE, TRAINING_FILE, CurveRow, TrainingRow
from craft.errors import CraftError, DatasetInvalid, RehearsalTooShort
from craft.infra.stage.context import StageContext, StageFunctions
from craft.infra.stage.diagnosis import explained_by_probe
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_training.base_models import BaseModel, BaseModels
from craft_training.estimates import steps_of, training_flops
from craft_training.model_shape import shape_of
from craft_training.packaging.comparison import replies_of
from craft_training.packaging.packaging import package
from craft_training.tuning.samples import tokenise
from craft_training.tuning.throughput import Throughput
from craft_training.tuning.tuning import Tuned, TuningRun, tune


class TrainingStages:
    """The stages over one process's base models, so that the process loads a model once."""

    def __init__(self, models: BaseModels, *, checkpoint_seconds: float, throughput: Throughput) -> None:
        self._models = models
        self._checkpoint_seconds = checkpoint_seconds
        self._throughput = throughput

    def functions(self) -> StageFunctions:
        """Stage functions by kind."""
        return {
            StageKind.REHEARSE: self.rehearse,
            StageKind.TUNE: self.tune,
            StageKind.PACKAGE: self.package,
        }

    def rehearse(self, parameters: RehearseParameters, context: StageContext) -> StageResult:
        """Tune M0 on questions that it knows best (method.md, step 4). Raises RehearsalTooShort below `min_steps`."""
        return self._tune(parameters, context, too_short=RehearsalTooShort)

    def tune(self, parameters: TuneParameters, context: StageContext) -> StageResult:
        """Tune M0 on a strategy's training set (method.md, step 9). Raises DatasetInvalid below `min_steps`."""
        return self._tune(parameters, context, too_short=DatasetInvalid)

    def package(self, parameters: PackageParameters, context: StageContext) -> StageResult:
        """Build the deliverable and check that it replies as the engine did. Raises AdapterUnservable."""
        try:
            as_trained = None
            if parameters.quantization is not Quantization.NONE:
                trained = self._models.get(parameters.model, parameters.trainer, parameters.quantization)
                as_trained = replies_of(parameters, context, trained)
                del trained  # The next line loads another model, and both may not fit into memory.
            base = self._models.get(parameters.model, parameters.trainer)
            return package(parameters, context, base, as_trained=as_trained)
        except Exception:
            self._models.forget()
            raise

    def _tune(
        self, parameters: RehearseParameters | TuneParameters, context: StageContext, *, too_short: type[CraftError]
    ) -> StageResult:
        """Read the input `rows`, write adapter/ and curve.jsonl, and report each step as progress."""
        settings = parameters.training
        rows = list(read_rows(context.input("rows") / TRAINING_FILE, TrainingRow))
        with explained_by_probe(context):
            _check_steps(len(rows), settings, too_short)
        base = self._models.get(parameters.model, parameters.trainer, settings.quantization)
        length = min(settings.max_length, base.context_length)
        tokenised = tokenise(rows, base.chat, max_length=length)
        run = TuningRun(tokenised.samples, settings, parameters.seed)
        try:
            result = self._run(base, run, context)
        except Exception:
            # A failure during the replacement of layers may leave some of them replaced.
            self._models.forget()
            raise
        return result.model_copy(update={"findings": [*result.findings, *findings_of(tokenised.findings)]})

    def _run(self, base: BaseModel, run: TuningRun, context: StageContext) -> StageResult:
        def report_step(row: CurveRow, steps: int) -> None:
            context.progress(
                row.step, steps, {"loss": row.loss, "learning_rate": row.learning_rate, "epoch": row.epoch}
            )

        tuned = tune(
            base,
            run,
            adapter=context.output / ADAPTER_FOLDER,
            checkpoints=context.checkpoint,
            checkpoint_seconds=self._checkpoint_seconds,
            on_step=report_step,
            on_saved=context.work_saved,
            stop=context.stop,
        )
        write_rows(context.output / CURVE_FILE, tuned.curve)
        tokens = sum(len(sample.tokens) for sample in run.samples) * run.settings.epochs
        seconds = max(tuned.seconds, 1e-9)
        self._throughput.write(
            training_flops(shape_of(base.model).layer_parameters, tuned.trainable_parameters, tokens) / seconds
        )
        return StageResult(
            counts={
                "rows": len(run.samples),
                "steps": run.steps,
                "trainable_parameters": tuned.trainable_parameters,
                "resumed_at_step": tuned.resumed_at,
                **_pass_counts(tuned),
            },
            metrics={
                "first_loss": tuned.curve[0].loss,
                "last_loss": tuned.curve[-1].loss,
                "samples_per_second": len(run.samples) * run.settings.epochs / seconds,
                "tokens_per_second": tokens / seconds,
            },
            cost=Cost(seconds=tuned.seconds, trained_tokens=tokens),
            # The dtype that was asked for, or float32 where the device does not multiply in it.
            notes=[f"{str(base.model.dtype).removeprefix('torch.')} on {base.model.device.type}", *_notes(tuned)],
            versions={name: version(name) for name in ("torch", "transformers", "peft")},
        )


def _check_steps(rows: int, settings: TrainingSettings, too_short: type[CraftError]) -> None:
    steps = steps_of(rows, settings)
    # `tokenise` refuses an empty set.
    if rows and steps < settings.min_steps:
        raise too_short(
            f"{rows} rows give {steps} optimiser steps; at least {settings.min_steps} are needed.",
            hint="Give more rows or epochs, a smaller batch_size, or lower min_steps.",
            param="training.min_steps" if too_short is not RehearsalTooShort else "rehearsal.training.min_steps",
        )


def _pass_counts(tuned: Tuned) -> dict[str, int]:
    """The passes, and the accelerator's peak memory where there is one."""
    passes = tuned.passes
    counts = {
        "passes": passes.passes,
        "checkpointed_passes": passes.checkpointed,
        "tokens_per_pass": passes.largest,
        "steps_cut_again": passes.cut_again,
    }
    return counts | ({"peak_device_bytes": tuned.peak_bytes} if tuned.peak_bytes else {})


def _notes(tuned: Tuned) -> list[str]:
    passes, notes = tuned.passes, []
    if passes.cut_again:
        notes.append(
            f"Memory ran out {passes.cut_again} time(s); the steps were computed again by smaller passes, of at most "
            f"{passes.largest:,} tokens."
        )
    if passes.checkpointed:
        notes.append(
            f"{passes.checkpointed:,} of {passes.passes:,} passes used gradient checkpointing, which saves memory and "
            "takes a third longer."
        )
    return notes
