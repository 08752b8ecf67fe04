"""When artifacts expire, as views show it."""

from collections.abc import Iterable
from datetime import datetime

from sqlmodel import Session

from craft.contracts.retention import RETENTION_OF
from craft.infra.settings import RetentionSettings
from craft_gateway.retention_uses import uses
from craft_gateway.tables import Stage


def expiries(session: Session, stages: Iterable[Stage], settings: RetentionSettings) -> dict[str, datetime | None]:
    """By key, when what these stages made or took over expires; None while it is kept. One query."""
    kinds = {stage.artifact_key: stage.kind for stage in stages if stage.artifact_key is not None}
    return {
        key: use.expires_at(settings.lifetime(RETENTION_OF[kinds[key]])) for key, use in uses(session, kinds).items()
    }
