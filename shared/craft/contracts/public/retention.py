"""Garbage collection of the artifact store: the removed or removable entries."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract, Moment
from craft.contracts.stages.kinds import RetentionClass, StageKind


class ExpiredView(Contract):
    """An entry of the artifact store that nothing needs and whose retention time is over."""

    object: Literal["craft.expired"] = "craft.expired"
    retention_class: RetentionClass
    key: str | None = Field(description="Key of the artifact, or of the checkpoint's stage; null for scratch folders.")
    kind: StageKind | None = Field(description="Kind of the stage that wrote it, if known.")
    bytes: int = Field(ge=0)
    last_used_at: Moment = Field(description="The end of the last job that used it, or its last change.")
    expires_at: Moment


class GcView(Contract):
    """The removed entries or, with `dry_run`, the removable ones. `has_more`: the limit was reached."""

    object: Literal["list"] = "list"
    dry_run: bool
    data: list[ExpiredView]
    total: int = Field(ge=0, description="Number of entries in `data`.")
    total_bytes: int = Field(ge=0, description="Their total size.")
    has_more: bool
    last_id: None = None
