"""A row that uses an artifact is written only where the garbage collector has not taken the artifact."""

import pytest
from sqlmodel import col, delete, select
from tests.services.gateway.rigs.world import World

from craft.errors import NotFound
from craft_gateway.retention.uses import lock_artifact
from craft_gateway.store.tables import Artifact


def test_an_artifact_that_the_collector_took_first_is_refused(world: World) -> None:
    world.do(world.create(), "ingest")
    with world.database.write() as session:
        made = session.exec(select(Artifact)).one().ref
        lock_artifact(session, made)
        session.exec(delete(Artifact).where(col(Artifact.key) == made.key))
        session.expire_all()
        with pytest.raises(NotFound, match="expired"):
            lock_artifact(session, made)
