"""What a sweep of the artifact store removes, or would."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract, Moment
from craft.contracts.stages.kinds import RetentionClass, StageKind


class ExpiredView(Contract):
    """Something in the artifact store that nothing needs and whose time is over."""

    object: Literal["craft.expired"] = "craft.expired"
    retention_class: RetentionClass
    key: str | None = Field(description="Of the artifact, or of the stage whose checkpoint it is; scratch has none.")
    kind: StageKind | None = Field(description="What made it, as far as that is on record.")
    bytes: int = Field(ge=0)
    last_used_at: Moment = Field(description="The end of the last job that used it, or else its last change.")
    expires_at: Moment


class GcView(Contract):
    """What is gone, or with `dry_run` would go. `has_more`: the limit was reached first."""

    object: Literal["list"] = "list"
    dry_run: bool
    data: list[ExpiredView]
    total: int = Field(ge=0, description="Entries of `data`.")
    total_bytes: int = Field(ge=0, description="Of them together.")
    has_more: bool
    last_id: None = None
