"""What has expired: artifacts by the jobs that used them, and what attempts left behind by its age in the store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Select
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from craft.contracts.events import StageStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import FACTS, RetentionClass, StageKind
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.store import Area, CollectableStore, StoredFolder, folder_of
from craft_gateway.retention.uses import uses, waited_for
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact, Stage

PAGE = 500
_CLASS_OF_AREA = {
    Area.ARTIFACTS: RetentionClass.ORPHAN,
    Area.CHECKPOINTS: RetentionClass.CHECKPOINT,
    Area.SCRATCH: RetentionClass.SCRATCH,
}
_KINDS = {kind.value: kind for kind in StageKind}


@dataclass(frozen=True, slots=True)
class Expired:
    """Something whose time is over. `kind` is None of what no row of `artifact` knows; `bytes` is 0 until measured."""

    retention_class: RetentionClass
    folders: tuple[StoredFolder, ...]
    key: str | None
    kind: StageKind | None
    last_used_at: datetime
    expires_at: datetime
    bytes: int = 0


class Expiry:
    """Looks, and changes nothing. `page`: how much of it at a time.

    Folders are walked outside of any transaction: a slow store must not hold a lock, nor a connection.
    """

    def __init__(
        self, database: Database, store: CollectableStore, settings: RetentionSettings, *, page: int = PAGE
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._page = page

    def pages(self) -> Iterator[Sequence[Expired]]:
        """All that has expired, a page at a time; each is one short read transaction, and may be empty."""
        yield from self._pages_of_artifacts()
        for area in (Area.CHECKPOINTS, Area.SCRATCH, Area.ARTIFACTS):
            folders = self._store.folders(area)
            while page := list(islice(folders, self._page)):
                yield self._measured(self._left_behind(page))

    def still_old(self, seen: Expired) -> bool:
        """Whether nobody has written to a folder that goes by its own age since it was seen."""
        return seen.kind is not None or bool(self._old(seen.folders, _CLASS_OF_AREA[seen.folders[0].area]))

    def again(self, session: Session, seen: Expired) -> Sequence[StoredFolder] | None:
        """The folders that are to go by what the rows say now; None where it has not expired any longer."""
        if seen.kind is None:
            return _unneeded(session, seen.folders) or None
        found = self._artifacts(session, _rows(session, _COLUMNS.where(col(Artifact.key) == seen.key)))
        return found[0].folders if found else None

    def _pages_of_artifacts(self) -> Iterator[Sequence[Expired]]:
        after = ""
        while True:
            with self._database.read() as session:
                rows = _rows(session, _COLUMNS.where(col(Artifact.key) > after).limit(self._page))
                found = self._artifacts(session, rows)
            if not rows:
                return
            yield self._measured(found)
            after = rows[-1].key

    def _artifacts(self, session: Session, rows: Sequence["_Row"]) -> list[Expired]:
        now = self._database.now(session)
        lifetimes = {row.key: self._settings.lifetime(FACTS[row.kind].retention) for row in rows if row.kind}
        # Nothing is used last before it was made, and most are young.
        old = [row for row in rows if (life := lifetimes.get(row.key)) is not None and row.created_at + life <= now]
        needed_by = uses(session, [row.key for row in old])
        found = []
        for row in old:
            use, lifetime = needed_by[row.key], lifetimes[row.key]
            last_used_at = use.last_used_at or row.created_at
            if lifetime is None or row.kind is None or use.kept_by or last_used_at + lifetime > now:
                continue
            folders = tuple(folder_of(ArtifactRef(key=row.key, digest=digest)) for digest in row.digests)
            found.append(_expired(FACTS[row.kind].retention, folders, last_used_at, lifetime, kind=row.kind))
        return found

    def _left_behind(self, folders: Sequence[StoredFolder]) -> list[Expired]:
        """Those folders of one area that nothing needs and whose time is over."""
        of_class = _CLASS_OF_AREA[folders[0].area]
        lifetime = self._settings.lifetime(of_class)
        if lifetime is None:
            return []
        with self._database.read() as session:
            now = self._database.now(session)
            unneeded = _unneeded(session, folders)
        return [_expired(of_class, (folder,), now - age, lifetime) for folder, age in self._old(unneeded, of_class)]

    def _old(self, folders: Sequence[StoredFolder], of_class: RetentionClass) -> list[tuple[StoredFolder, timedelta]]:
        """Those that have not changed for the lifetime of their class, with the time since."""
        lifetime = self._settings.lifetime(of_class)
        if lifetime is None:
            return []
        store_now, found = self._store.now(), []
        for folder in folders:
            changed_at = self._store.changed_at(folder)
            if changed_at is not None and (age := timedelta(seconds=store_now - changed_at)) >= lifetime:
                found.append((folder, age))
        return found

    def _measured(self, found: Sequence[Expired]) -> Sequence[Expired]:
        return [replace(one, bytes=sum(self._store.bytes_of(folder) for folder in one.folders)) for one in found]


def _expired(
    of_class: RetentionClass,
    folders: tuple[StoredFolder, ...],
    last_used_at: datetime,
    lifetime: timedelta,
    *,
    kind: StageKind | None = None,
) -> Expired:
    return Expired(
        retention_class=of_class,
        folders=folders,
        key=folders[0].key,
        kind=kind,
        last_used_at=last_used_at,
        expires_at=last_used_at + lifetime,
    )


class _Row(NamedTuple):
    """`kind` is None where this version knows no such kind: its artifacts are left alone."""

    key: str
    kind: StageKind | None
    digests: Sequence[str]
    created_at: datetime


_COLUMNS: Select[Any] = select_columns(
    col(Artifact.key),
    col(Artifact.manifest)["kind"].as_string().label("kind"),
    col(Artifact.digest),
    col(Artifact.other_digests),
    col(Artifact.created_at),
).order_by(col(Artifact.key))


def _rows(session: Session, query: Select[Any]) -> list[_Row]:
    found = session.connection().execute(query)
    return [_Row(row.key, _KINDS.get(row.kind), [row.digest, *row.other_digests], row.created_at) for row in found]


def _unneeded(session: Session, folders: Sequence[StoredFolder]) -> list[StoredFolder]:
    """Those folders of one area that no row needs."""
    if folders[0].area is Area.SCRATCH:
        ids = [folder.attempt.stage_id for folder in folders if folder.attempt]
        running = select(Stage.id, Stage.fence).where(col(Stage.id).in_(ids), Stage.status == StageStatus.RUNNING)
        at_work = set(session.exec(running).all())
        return [folder for folder in folders if folder.attempt not in at_work]
    keys = {folder.key for folder in folders if folder.key}
    if folders[0].area is Area.CHECKPOINTS:
        needed = waited_for(session, keys)
    else:
        # In this order: what a stage that ends in between has published is known by one or by the other.
        needed = {key for key, use in uses(session, keys).items() if use.kept_by}
        # All folders of a key that has a row go with the row: jobs may point at bytes that no longer count.
        needed |= set(session.exec(select(Artifact.key).where(col(Artifact.key).in_(keys))))
    return [folder for folder in folders if folder.key not in needed]
