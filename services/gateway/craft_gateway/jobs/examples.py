"""Examples of jobs in the OpenAPI document."""

from typing import Any

_MODEL = {"id": "HuggingFaceTB/SmolLM2-135M-Instruct"}
_CAPITALS = ("France Paris", "Japan Tokyo", "Kenya Nairobi", "Peru Lima", "Norway Oslo", "Egypt Cairo")
JOB_EXAMPLES: dict[str, Any] = {
    "uploaded": {
        "summary": "An uploaded dataset, two strategies",
        "value": {
            "name": "support-qa",
            "base_model": _MODEL,
            "dataset": {"id": "dset_01jgywz3x4v5q6r7s8t9vawbxc"},
            "strategies": ["craft", "cor-rait"],
            "labels": {"ticket": "ML-412"},
        },
    },
    "inline": {
        "summary": "A few rows in the request",
        "value": {
            "name": "capitals",
            "base_model": _MODEL,
            "dataset": {
                "rows": [
                    {"question": f"What is the capital of {country}?", "answers": [capital], "category": "capital"}
                    for country, capital in (pair.split() for pair in _CAPITALS)
                ]
            },
            "strategies": ["cor-rait"],
            "probe": {"samples": 4},
            "training": {"lora_r": 8, "epochs": 1},
        },
    },
}
