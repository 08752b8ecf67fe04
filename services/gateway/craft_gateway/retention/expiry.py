"""Finds expired items: artifacts by the end of the jobs that used them, other folders by their age in the store."""

import logging
from collections.abc import Callable, Iterator, Sequence
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
from craft.errors import Unavailable
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.store import Area, CollectableStore, StoredFolder, folder_of
from craft_gateway.retention.uses import keys_of_unfinished_stages, uses
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact, Stage

PAGE = 500
_CLASS_OF_AREA = {
    Area.ARTIFACTS: RetentionClass.ORPHAN,
    Area.CHECKPOINTS: RetentionClass.CHECKPOINT,
    Area.SCRATCH: RetentionClass.SCRATCH,
    Area.DAMAGED: RetentionClass.DAMAGED,
}
_GRACE = timedelta(hours=1)
"""A folder without a row is kept for so long, whatever the settings say: its report or its upload may be on the way."""
_log = logging.getLogger("craft.retention")
_KINDS = {kind.value: kind for kind in StageKind}


@dataclass(frozen=True, slots=True)
class Expired:
    """An expired item. `kind` is None if it has no row in `artifact`; `bytes` is 0 until measured."""

    retention_class: RetentionClass
    folders: tuple[StoredFolder, ...]
    key: str | None
    kind: StageKind | None
    last_used_at: datetime
    expires_at: datetime
    bytes: int = 0


class Expiry:
    """Finds expired items and changes nothing. `page`: rows or folders read at a time.

    It walks folders outside of any transaction, so that a slow store holds neither a lock nor a connection.
    """

    def __init__(
        self,
        database: Database,
        store: CollectableStore,
        settings: RetentionSettings,
        *,
        page: int = PAGE,
        on_skipped: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_skipped` is called for each artifact whose row cannot be read."""
        self._database = database
        self._store = store
        self._settings = settings
        self._page = page
        self._on_skipped = on_skipped

    def pages(self) -> Iterator[Sequence[Expired]]:
        """Yield all expired items in pages. A page takes one short read transaction, and may be empty."""
        yield from self._pages_of_artifacts()
        for area in (Area.CHECKPOINTS, Area.SCRATCH, Area.DAMAGED, Area.ARTIFACTS):
            folders = self._store.folders(area)
            while page := list(islice(folders, self._page)):
                yield self._measured(self._expired_folders(page))

    def still_old(self, expired: Expired) -> bool:
        """Return whether an item that expires by its folder's age has not been written to since it was found."""
        return expired.kind is not None or bool(self._old(expired.folders, _CLASS_OF_AREA[expired.folders[0].area]))

    def recheck(self, session: Session, expired: Expired) -> Sequence[StoredFolder] | None:
        """Return the folders to remove by the rows as they are now; None if the item is in use again."""
        if expired.kind is None:
            return _unused(session, expired.folders) or None
        artifacts = self._artifacts(session, _rows(session, _COLUMNS.where(col(Artifact.key) == expired.key)))
        return artifacts[0].folders if artifacts else None

    def _pages_of_artifacts(self) -> Iterator[Sequence[Expired]]:
        after = ""
        while True:
            page = self._page_after(after)
            if page is None:
                return
            yield self._measured(page.expired)
            after = page.last_key

    def _page_after(self, key: str) -> "_Page | None":
        following = col(Artifact.key) > key
        try:
            with self._database.read() as session:
                rows = _rows(session, _COLUMNS.where(following).limit(self._page))
                return _Page(self._artifacts(session, rows), rows[-1].key) if rows else None
        except Unavailable:
            raise
        except Exception:  # whatever one row holds, all others must still expire
            with self._database.read() as session:
                keys = session.exec(select(Artifact.key).where(following).order_by(col(Artifact.key)).limit(self._page))
                each = list(keys)
            return _Page([expired for one in each for expired in self._expired_artifact(one)], each[-1])

    def _expired_artifact(self, key: str) -> list[Expired]:
        """The artifact if it has expired. One whose row cannot be read is logged, counted and left."""
        try:
            with self._database.read() as session:
                return self._artifacts(session, _rows(session, _COLUMNS.where(col(Artifact.key) == key)))
        except Unavailable:
            raise
        except Exception as error:
            _log.warning("artifact_row_unreadable", extra={"key": key, "error": str(error)[:300]})
            self._on_skipped()
            return []

    def _artifacts(self, session: Session, rows: Sequence["_Row"]) -> list[Expired]:
        now = self._database.now(session)
        lifetimes = {row.key: self._settings.lifetime(FACTS[row.kind].retention) for row in rows if row.kind}
        # An artifact's last use is not before its creation, and most artifacts are young: few rows need more queries.
        old = [row for row in rows if (life := lifetimes.get(row.key)) is not None and row.created_at + life <= now]
        use_of = uses(session, [row.key for row in old])
        expired = []
        for row in old:
            use, lifetime = use_of[row.key], lifetimes[row.key]
            last_used_at = use.last_used_at or row.created_at
            if lifetime is None or row.kind is None or use.kept_by or last_used_at + lifetime > now:
                continue
            folders = tuple(folder_of(ArtifactRef(key=row.key, digest=digest)) for digest in row.digests)
            expired.append(_expired(FACTS[row.kind].retention, folders, last_used_at, lifetime, kind=row.kind))
        return expired

    def _expired_folders(self, folders: Sequence[StoredFolder]) -> list[Expired]:
        """Return the folders, all of one area, that are unused and older than their lifetime."""
        retention_class = _CLASS_OF_AREA[folders[0].area]
        lifetime = self._lifetime_of_folders(retention_class)
        if lifetime is None:
            return []
        with self._database.read() as session:
            now = self._database.now(session)
            unused = _unused(session, folders)
        return [
            _expired(retention_class, (folder,), now - age, lifetime)
            for folder, age in self._old(unused, retention_class)
        ]

    def _old(
        self, folders: Sequence[StoredFolder], retention_class: RetentionClass
    ) -> list[tuple[StoredFolder, timedelta]]:
        """Return the folders that have not changed for the lifetime of their class, with the time since."""
        lifetime = self._lifetime_of_folders(retention_class)
        if lifetime is None:
            return []
        store_now, old = self._store.now(), []
        for folder in folders:
            changed_at = self._store.changed_at(folder)
            if changed_at is not None and (age := timedelta(seconds=store_now - changed_at)) >= lifetime:
                old.append((folder, age))
        return old

    def _lifetime_of_folders(self, retention_class: RetentionClass) -> timedelta | None:
        lifetime = self._settings.lifetime(retention_class)
        if lifetime is None or retention_class not in {RetentionClass.ORPHAN, RetentionClass.SCRATCH}:
            return lifetime
        return max(lifetime, _GRACE)

    def _measured(self, expired: Sequence[Expired]) -> Sequence[Expired]:
        return [replace(item, bytes=sum(self._store.bytes_of(folder) for folder in item.folders)) for item in expired]


def _expired(
    retention_class: RetentionClass,
    folders: tuple[StoredFolder, ...],
    last_used_at: datetime,
    lifetime: timedelta,
    *,
    kind: StageKind | None = None,
) -> Expired:
    return Expired(
        retention_class=retention_class,
        folders=folders,
        key=folders[0].key,
        kind=kind,
        last_used_at=last_used_at,
        expires_at=last_used_at + lifetime,
    )


class _Page(NamedTuple):
    """The expired artifacts of a page of rows, and the key of its last row."""

    expired: list[Expired]
    last_key: str


class _Row(NamedTuple):
    """An artifact's row. `kind` is None if this version does not know it: such an artifact does not expire."""

    key: str
    kind: StageKind | None
    digests: Sequence[str]
    created_at: datetime


_COLUMNS: Select[*tuple[Any, ...]] = select_columns(
    col(Artifact.key), col(Artifact.kind), col(Artifact.digest), col(Artifact.other_digests), col(Artifact.created_at)
).order_by(col(Artifact.key))


def _rows(session: Session, query: Select[*tuple[Any, ...]]) -> list[_Row]:
    rows = session.connection().execute(query).all()
    # A replica of an older version writes rows without a kind. Their manifests are not asked, since PostgreSQL fails
    # the whole query where one of them holds a NUL character.
    kinds = _kinds_of_stages(session, [row.key for row in rows if row.kind is None])
    return [
        _Row(row.key, _KINDS.get(row.kind) or kinds.get(row.key), [row.digest, *row.other_digests], row.created_at)
        for row in rows
    ]


def _kinds_of_stages(session: Session, keys: Sequence[str]) -> dict[str, StageKind]:
    """By key, the kind of a stage that has the artifact."""
    if not keys:
        return {}
    found = select(Stage.artifact_key, Stage.kind).where(col(Stage.artifact_key).in_(keys)).distinct()
    return {key: StageKind(kind) for key, kind in session.exec(found) if key is not None}


def _unused(session: Session, folders: Sequence[StoredFolder]) -> list[StoredFolder]:
    """Return the folders, all of one area, that no row of the database needs."""
    if folders[0].area is Area.DAMAGED:
        return list(folders)
    if folders[0].area is Area.SCRATCH:
        ids = [folder.attempt.stage_id for folder in folders if folder.attempt]
        running = select(Stage.id, Stage.fence).where(col(Stage.id).in_(ids), Stage.status == StageStatus.RUNNING)
        running_attempts = set(session.exec(running).all())
        return [folder for folder in folders if folder.attempt not in running_attempts]
    keys = {folder.key for folder in folders if folder.key}
    if folders[0].area is Area.CHECKPOINTS:
        needed = keys_of_unfinished_stages(session, keys)
    else:
        # The order of the queries matters: an artifact of a stage that ends in between appears in one of them.
        needed = {key for key, use in uses(session, keys).items() if use.kept_by}
        # Folders of a key that has a row are removed with the row: jobs may refer to digests other than the row's.
        needed |= set(session.exec(select(Artifact.key).where(col(Artifact.key).in_(keys))))
    return [folder for folder in folders if folder.key not in needed]
