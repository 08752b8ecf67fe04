"""Example bodies, shown in the OpenAPI document; the tests send them."""

from typing import Any

from craft.contracts.dataset_sources import HttpsSource, HubSource, S3Source

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

_DATASET_FIELDS: dict[str, Any] = {
    "task": {
        "type": "string",
        "enum": ["open_ended", "multiple_choice"],
        "description": "Open-ended where it is not said; rows with `choices` need it said.",
    },
    "name": {"type": "string", "minLength": 1, "maxLength": 200},
    "format": {
        "type": "string",
        "enum": ["auto", "jsonl", "json", "csv", "parquet"],
        "default": "auto",
        "description": "A hint: the bytes decide.",
    },
}
_COLUMNS = (
    "By our name (question, answers, answer, choices, id, category, messages) the file's column or a dotted path."
)


def _object(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


_SOURCES: list[dict[str, Any]] = [
    {**model.model_json_schema(), "title": model.__name__} for model in (HttpsSource, HubSource, S3Source)
]
_JSON_FIELDS: dict[str, Any] = {
    **_DATASET_FIELDS,
    "columns": {"type": "object", "additionalProperties": {"type": "string"}, "description": _COLUMNS},
}
_CAPITALS_ROWS: list[dict[str, Any]] = [
    {"question": "What is the capital of France?", "answers": ["Paris"], "category": "capital"}
]

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
                    **_DATASET_FIELDS,
                    "columns": {
                        "type": "string",
                        "description": f"A JSON object. {_COLUMNS}",
                        "example": '{"question": "prompt", "answers": "completion"}',
                    },
                },
            }
        },
        "application/json": {
            "schema": {
                "oneOf": [
                    _object(
                        ["rows"],
                        {**_JSON_FIELDS, "rows": {"type": "array", "maxItems": 10_000, "items": {"type": "object"}}},
                    ),
                    _object(["source"], {**_JSON_FIELDS, "source": {"oneOf": _SOURCES}}),
                ]
            },
            "examples": {
                "rows": {
                    "summary": "A few rows in the request",
                    "value": {"task": "open_ended", "name": "capitals", "rows": _CAPITALS_ROWS},
                },
                "hub": {
                    "summary": "A file of a dataset repository, with columns of its own",
                    "value": {
                        "name": "trivia",
                        "source": {
                            "kind": "hub",
                            "repo": "mandarjoshi/trivia_qa",
                            "revision": "main",
                            "file": "rc.nocontext/validation-00000-of-00001.parquet",
                        },
                        "columns": {"answers": "answer.aliases", "id": "question_id"},
                    },
                },
                "https": {
                    "summary": "Chats at a public address",
                    "value": {
                        "source": {"kind": "https", "url": "https://example.com/chats.jsonl"},
                        "columns": {"messages": "messages"},
                    },
                },
                "s3": {
                    "summary": "An object of a bucket that the operator has opened",
                    "value": {"source": {"kind": "s3", "uri": "s3://team-data/questions/2026-01.parquet"}},
                },
            },
        },
    },
}

WEBHOOK_EXAMPLES: dict[str, Any] = {
    "ends": {
        "summary": "How jobs end",
        "value": {
            "url": "https://hooks.example.com/craft",
            "types": ["job.succeeded", "job.failed", "job.cancelled"],
            "name": "pager",
        },
    },
    "everything": {"summary": "Whatever happens", "value": {"url": "https://hooks.example.com/all", "types": ["*"]}},
}
WEBHOOK_CHANGES: dict[str, Any] = {
    "off": {"summary": "Send nothing for now", "value": {"active": False}},
    "types": {"summary": "Other events", "value": {"types": ["job.*", "adapter.*"]}},
}
