"""Named recipes: training parameters that are known to work."""

from craft.contracts.services.training import Recipe
from craft.contracts.spec.jobs import TrainingSettings

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="paper",
        title="The paper's parameters",
        description="LoRA of rank 64 on all linear layers, three epochs: for models of 1 billion parameters and more.",
        training=TrainingSettings(),
    ),
    Recipe(
        name="paper-rehearsal",
        title="The paper's parameters for rehearsal",
        description="As `paper`, but a run of fewer than 8 optimiser steps fails: its knowledge flow would be noise.",
        training=TrainingSettings(min_steps=8),
    ),
    Recipe(
        name="small-machine",
        title="Two cores and a small model",
        description="Rank 16: the demo's recipe for SmolLM2-135M on a machine without an accelerator.",
        training=TrainingSettings(lora_r=16),
    ),
    Recipe(
        name="small-machine-rehearsal",
        title="Rehearsal on two cores",
        description="As `small-machine`, with small batches, so that 40 rows still make the 8 steps that are wanted.",
        training=TrainingSettings(lora_r=16, batch_size=8, min_steps=8),
    ),
)
