"""Inspects a job's rows and its model before it runs: findings, and the rows to go on without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from craft.contracts.documents.estimate import Check
from craft.contracts.findings import Finding, findings_of
from craft.contracts.spec.jobs import JobSpec
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.names import HELD_OUT
from craft.core.findings import Acceptance, FindingCode
from craft.errors import NotFound
from craft.infra.models.chats.formats import SettledChats
from craft.infra.models.checkpoint import check_ids
from craft.infra.models.folders import ModelFolder
from craft.infra.models.inspection.documents import Inspection
from craft.infra.models.inspection.inspector import MAX_REMEMBERED, Inspections, relevant
from craft.infra.storage.artifacts import ArtifactStore
from craft_gateway.jobs.model_findings import model_findings
from craft_gateway.jobs.row_findings import row_findings, rows_check
from craft_gateway.jobs.template_findings import end_findings, template_findings
from craft_gateway.jobs.training_room import TrainingRoom


@dataclass(frozen=True, slots=True)
class JobInspection:
    """`findings` are warnings, those of the uploads among them; `left_out` has lines by evaluation set."""

    findings: Sequence[Finding]
    left_out: Mapping[str, Sequence[int]]
    check: Check


class JobInspector:
    """Inspects jobs over the stored datasets."""

    def __init__(self, store: ArtifactStore, inspections: Inspections) -> None:
        self._store = store
        self._inspections = inspections
        self._absent: set[str] = set()
        """Specifications whose datasets were not in the store."""

    def is_known(self, spec: JobSpec) -> bool:
        """True if rows for such a specification were inspected or missed before, so that `inspect` is quick."""
        return self._inspections.is_known(spec) or relevant(spec).model_dump_json() in self._absent

    def inspect(
        self,
        spec: JobSpec,
        model: ModelFolder,
        sets: Mapping[str, ArtifactRef],
        *,
        context_length: int,
        chats: SettledChats,
        room: TrainingRoom = TrainingRoom(),  # noqa: B008 - immutable
    ) -> JobInspection:
        """Inspect the datasets, by evaluation set, for a job on the model, with its form of chats.

        `room`: the rows that its training can hold.
        Raises ModelRejected for letters that cannot be read, RequestInvalid for shots that are held out, and
        DatasetInvalid for findings that `accept` does not name.
        """
        found = self._found(room.narrowed(spec), model, sets, context_length, chats)
        if found.highest_id is not None and model.embedding_rows is not None:
            check_ids(found.highest_id, model.embedding_rows, model.ref.id)
        rows = row_findings(spec, found, room)
        noticed = [
            *model_findings(model),
            *template_findings(begins_replies=chats.template.traits.begins_replies),
            *chats.findings,
            *end_findings(found, model.path),
            *rows.findings,
        ]
        known = [finding for ref in sets.values() for finding in self._upload_findings(ref)]
        new = findings_of(Acceptance.of(spec.accept).apply(noticed))
        return JobInspection(
            findings=_each_once([*new, *known]),
            left_out=rows.left_out if FindingCode.ROWS_TOO_LONG in spec.accept else {},
            check=rows_check(found),
        )

    def _found(
        self,
        spec: JobSpec,
        model: ModelFolder,
        sets: Mapping[str, ArtifactRef],
        context_length: int,
        chats: SettledChats,
    ) -> Inspection:
        named = relevant(spec).model_dump_json()
        try:
            folders = {name: self._store.open(ref) for name, ref in sets.items()}
            self._absent.discard(named)
            return self._inspections.inspect(
                spec, model.path, folders, own=HELD_OUT, context=context_length, template=chats.template
            )
        except (NotFound, FileNotFoundError):
            if len(self._absent) >= MAX_REMEMBERED:
                self._absent.clear()
            self._absent.add(named)
            # The job's first stage says so, and what to do.
            return Inspection(unread="The bytes of a dataset are not here.", complete=False)

    def _upload_findings(self, ref: ArtifactRef) -> Sequence[Finding]:
        try:
            return self._store.manifest(ref).result.findings
        except NotFound:
            return []


def _each_once(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, each once: what the upload noticed of the same rows is told in the job's words, which say more."""
    first: dict[tuple[str, str | None, tuple[int, ...], int], Finding] = {}
    for each in findings:
        name = each.field if each.field and each.field.startswith("evaluation") else None
        first.setdefault((each.code, name if each.lines else each.message, tuple(each.lines), each.count), each)
    return list(first.values())
