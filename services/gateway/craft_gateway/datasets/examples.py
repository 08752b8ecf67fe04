"""Examples of datasets in the OpenAPI document."""

from typing import Any

from craft.contracts.spec.dataset_sources import HttpsSource, HubSource, S3Source
from craft.core.findings import FindingCode

_PLAIN = r"^[^\x00]*$"
_COLUMN: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": _PLAIN}
_ACCEPT: dict[str, Any] = {
    "type": "array",
    "maxItems": len(FindingCode),
    "items": {"type": "string", "enum": [code.value for code in FindingCode]},
    "description": "Codes of error findings to go on with.",
}
_DATASET_FIELDS: dict[str, Any] = {
    "task": {
        "type": "string",
        "enum": ["open_ended", "multiple_choice"],
        "description": "Open-ended where it is not said; rows with `choices` need it said.",
    },
    "name": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": _PLAIN},
    "format": {
        "type": "string",
        "enum": ["auto", "jsonl", "json", "csv", "parquet"],
        "default": "auto",
        "description": "A hint: the bytes decide.",
    },
    "answer_base": {
        "type": "integer",
        "enum": [0, 1],
        "description": "The number of the first option's key; by default 0, or as the options' columns are numbered.",
    },
    "accept": _ACCEPT,
}
_COLUMNS = (
    "By our name (question, answers, answer, choices, id, category, messages) the file's column or a dotted path; for "
    "answers and choices also a list of them."
)


def _object(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


_SOURCES: list[dict[str, Any]] = [
    {**model.model_json_schema(), "title": model.__name__} for model in (HttpsSource, HubSource, S3Source)
]
_JSON_FIELDS: dict[str, Any] = {
    **_DATASET_FIELDS,
    "columns": {
        "type": "object",
        "maxProperties": 6,
        "propertyNames": {**_COLUMN, "maxLength": 40},
        "additionalProperties": {
            "anyOf": [_COLUMN, {"type": "array", "items": _COLUMN, "minItems": 1, "maxItems": 26}]
        },
        "description": _COLUMNS,
    },
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
                        "maxLength": 4000,
                        "pattern": _PLAIN,
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
