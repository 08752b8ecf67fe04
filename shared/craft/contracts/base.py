"""What every model that crosses a process has in common."""

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
"""Lower-case hex of a SHA-256."""


def _be_strict(node: Any) -> None:
    """Of a core schema and all that it is made of."""
    if isinstance(node, list | tuple):
        for part in node:
            _be_strict(part)
    if not isinstance(node, dict):
        return
    if node.get("type") in _STRICT:
        node.setdefault("strict", True)
    for name, part in node.items():
        if name == "fields" and isinstance(part, dict):
            # By names of fields, which may be those of a schema's own members.
            _be_strict(list(part.values()))
        elif name not in _NO_SCHEMA:
            _be_strict(part)


class Contract(BaseModel):
    """Immutable and strict: an unknown field, or `"3"` and `true` for a number, is an error, not a surprise later."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Strict about what JSON itself tells apart. Enums and times, which it does not know, still come as texts."""
        schema = handler(source)
        _be_strict(schema)
        return schema


def rfc3339(moment: datetime) -> str:
    """A time in UTC with Z and milliseconds: one text for one instant, so that ETags and sorting by text hold."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[
    AwareDatetime,
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    Field(examples=["2025-01-31T09:30:00.000Z"]),
]
ExpiresAt = Annotated[
    Moment | None,
    Field(description="When it may be removed; null while something needs it, or where it is kept without limit."),
]
