"""Example bodies, shown in the OpenAPI document; the tests send them."""

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

_ADAPTER = "adpt_01jgywz3x4v5q6r7s8t9vawbxc"
CHAT_EXAMPLES: dict[str, Any] = {
    "greedy": {
        "summary": "One short reply",
        "value": {
            "model": _ADAPTER,
            "messages": [{"role": "user", "content": "Who wrote the Voynich manuscript?"}],
            "max_completion_tokens": 64,
            "temperature": 0.0,
        },
    },
    "streamed": {
        "summary": "Token by token, with the count of tokens at the end",
        "value": {
            "model": _ADAPTER,
            "messages": [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": [{"type": "text", "text": "What is the capital of Kenya?"}]},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": ["\n"],
            "seed": 7,
        },
    },
}
TUNING_EXAMPLES: dict[str, Any] = {
    "file": {
        "summary": "An uploaded file, and the method's own settings",
        "value": {
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "training_file": "file-01jgywz3x4v5q6r7s8t9vawbxc",
            "suffix": "support-qa",
        },
    },
    "settings": {
        "summary": "Hyperparameters, a validation file, and settings that OpenAI does not have",
        "value": {
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "training_file": "file-01jgywz3x4v5q6r7s8t9vawbxc",
            "validation_file": "file-01jgywz3x4v5q6r7s8t9vawbxd",
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 16}}},
            "seed": 7,
            "metadata": {"ticket": "ML-412"},
            "craft": {"selection": {"tau": 0.5}},
        },
    },
}
CHAT_COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1738315800,
    "model": _ADAPTER,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Sorry, I don't know."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 38, "completion_tokens": 7, "total_tokens": 45},
}

_TASK = {"type": "string", "enum": ["open_ended", "multiple_choice"], "default": "open_ended"}
_NAME = {"type": "string", "minLength": 1, "maxLength": 200}

DATASET_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "JSONL, JSON, CSV or Parquet."},
                    "task": _TASK,
                    "name": _NAME,
                    "format": {
                        "type": "string",
                        "enum": ["auto", "jsonl", "json", "csv", "parquet"],
                        "default": "auto",
                        "description": "`auto` looks at the bytes.",
                    },
                },
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["rows"],
                "additionalProperties": False,
                "properties": {
                    "task": _TASK,
                    "name": _NAME,
                    "rows": {"type": "array", "maxItems": 10_000, "items": {"type": "object"}},
                },
            },
            "example": {
                "task": "open_ended",
                "name": "capitals",
                "rows": [{"question": "What is the capital of France?", "answers": ["Paris"], "category": "capital"}],
            },
        },
    },
}
