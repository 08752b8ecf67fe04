"""Several coordinators on one PostgreSQL: each publication is claimed by one of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL, URL
from tests.services.gateway.rigs.world import World, postgres_world, sha

from craft.contracts.public.publishing import MlflowTarget, PublicationStatus
from craft.core.strategies import Strategy
from craft.errors import PublishingRefused
from craft.infra.settings.publishing import PublishingSettings
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.publishing.loop import PublicationLoop
from craft_gateway.publishing.publications import destination_of
from craft_gateway.store.tables import Publication

pytestmark = ON_POSTGRESQL
COUNT, COORDINATORS = 24, 4


@pytest.fixture
def world() -> Iterator[World]:
    with postgres_world(URL) as world:
        yield world


def queued(world: World, job: str, number: int) -> Publication:
    target = MlflowTarget(kind="mlflow", model_name=f"model {number}")
    return Publication(
        id=f"publ_{number:026}",
        job_id=job,
        team="default",
        strategy=Strategy.CRAFT,
        target=target.model_dump(),
        target_hash=sha(target.model_name),
        destination=destination_of(target),
        artifact_key=sha("k"),
        artifact_digest=sha("d"),
        evaluation_key=sha("k"),
        evaluation_digest=sha("d"),
        status=PublicationStatus.QUEUED,
        due_at=world.clock.now,
        created_at=world.clock.now,
    )


def test_each_publication_is_claimed_once_and_its_end_is_written_once(world: World, tmp_path: Path) -> None:
    job = world.create(Strategy.COR_RAIT)
    with world.database.write() as session:
        for number in range(COUNT):
            session.add(queued(world, job, number))

    def work(_: int) -> list[str]:
        loop = PublicationLoop(world.database, FolderStore(tmp_path), {}, PublishingSettings())
        claimed = []
        while (publication := loop._claim()) is not None:
            claimed.append(publication.row.id)
            loop._settle_failure(publication.row, PublishingRefused("No."))
        return claimed

    with ThreadPoolExecutor(COORDINATORS) as pool:
        claimed = [row_id for ids in pool.map(work, range(COORDINATORS)) for row_id in ids]
    # A coordinator that finds the last row locked stops early; the row is not lost, because another one claimed it.
    assert sorted(claimed) == sorted(f"publ_{number:026}" for number in range(COUNT))
    failed = [event for event in world.events(job) if event.type.value == "adapter.publish_failed"]
    assert sorted(event.data["publication"] for event in failed) == sorted(claimed)
