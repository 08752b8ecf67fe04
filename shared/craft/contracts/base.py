"""The base of all models that pass between processes, and their common types."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema

JOB_ID = r"^cjob_[0-9a-hjkmnp-tv-z]{26}$"
DATASET_ID = r"^dset_[0-9a-hjkmnp-tv-z]{26}$"
ADAPTER_ID = r"^adpt_[0-9a-hjkmnp-tv-z]{26}$"
EXAMPLE_ADAPTER_ID = "adpt_01jgywz3x4v5q6r7s8t9vawbxc"
NAME = r"^[a-z0-9][a-z0-9._-]{0,99}$"
SHA256 = r"^[0-9a-f]{64}$"

_STRICT = frozenset({"int", "float", "bool"})
_NO_SCHEMA = frozenset({"cls", "config", "default", "expected", "members", "metadata", "serialization"})

Digest = Annotated[str, Field(pattern=SHA256)]
"""A SHA-256 in lower-case hex."""


def _be_strict(node: Any) -> None:
    """Make a core schema and all of its parts strict."""
    if isinstance(node, list | tuple):
        for part in node:
            _be_strict(part)
    if not isinstance(node, dict):
        return
    if node.get("type") in _STRICT:
        node.setdefault("strict", True)
    for name, part in node.items():
        if name == "fields" and isinstance(part, dict):
            # The keys here are names of fields, which may equal names of a schema's own members.
            _be_strict(list(part.values()))
        elif name not in _NO_SCHEMA:
            _be_strict(part)


class Contract(BaseModel):
    """Immutable and strict: an unknown field is an error, and so is `"3"` or `true` for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Make the types strict that JSON has. It has no enums and times, so these still come as strings."""
        schema = handler(source)
        _be_strict(schema)
        return schema


def rfc3339(moment: datetime) -> str:
    """A time in UTC with Z and milliseconds. One instant has one text, so that ETags and sorting by text work."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[
    AwareDatetime,
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    Field(examples=["2025-01-31T09:30:00.000Z"]),
]
ExpiresAt = Annotated[
    Moment | None,
    Field(description="The time from which it may be removed; null while it is needed or if it is kept without limit."),
]
