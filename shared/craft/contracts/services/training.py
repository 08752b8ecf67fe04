"""The training service's calls: named recipes, and estimates of training runs."""

from typing import Literal

from pydantic import ConfigDict, Field

from craft.contracts.base import NAME, Contract
from craft.contracts.spec.jobs import BaseModelRef, TrainingSettings

_MAX_ROWS = 100_000_000


class Recipe(Contract):
    """Proven parameters. `training` can be used in a job unchanged."""

    name: str = Field(pattern=NAME)
    title: str
    description: str
    training: TrainingSettings


class Recipes(Contract):
    """GET /v1/recipes: the named recipes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "list",
                    "data": [
                        {
                            "name": "paper",
                            "title": "The paper's parameters",
                            "description": "LoRA of rank 64 on all linear layers, three epochs.",
                            "training": {"lora_r": 64, "lora_alpha": 16, "epochs": 3},
                        }
                    ],
                }
            ]
        }
    )

    object: Literal["list"] = "list"
    data: list[Recipe]


class TrainingEstimateRequest(Contract):
    """POST /v1/estimate: a training set of `rows` rows. Token counts are means over prompt and target together."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": {"id": "HuggingFaceTB/SmolLM2-135M-Instruct"},
                    "rows": 150,
                    "tokens_per_row": 68,
                    "training": {"lora_r": 16},
                }
            ]
        }
    )

    model: BaseModelRef
    rows: int = Field(ge=1, le=_MAX_ROWS)
    tokens_per_row: int = Field(ge=2, le=131_072)
    answer_tokens_per_row: int = Field(8, ge=1, le=131_072, description="Tokens of the target.")
    training: TrainingSettings = Field(default_factory=TrainingSettings)


class TrainingEstimate(Contract):
    """The cost of a run on this installation. `speed` says whether its rate was measured here or assumed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "steps": 30,
                    "trained_tokens": 30600,
                    "seconds": 36.2,
                    "speed": "measured",
                    "flops_per_second": 3.9e11,
                    "memory_bytes": 1100000000,
                    "trainable_parameters": 4884480,
                    "adapter_bytes": 19537920,
                    "notes": [],
                }
            ]
        }
    )

    steps: int
    trained_tokens: int
    seconds: float
    speed: Literal["measured", "assumed"]
    flops_per_second: float
    memory_bytes: int
    trainable_parameters: int
    adapter_bytes: int
    notes: list[str] = Field(description="Reasons why such a run would fail.")
