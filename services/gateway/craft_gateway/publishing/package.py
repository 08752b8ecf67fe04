"""Builds the package of an adapter that is published, and defines the protocol of a publisher."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from craft.contracts.documents.evaluation import EvaluationDocument
from craft.contracts.public.publishing import HubTarget, PublishTarget
from craft.contracts.stages.names import evaluate_stage, package_stage
from craft.contracts.stages.rows import ADAPTER_FOLDER, EVALUATION_FILE
from craft.core.strategies import Strategy
from craft_gateway.job_views.stored_results import StoredResults
from craft_gateway.plan.parameters import resolved_parameters
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.store.tables import Dataset, Job, Publication


@dataclass(frozen=True, slots=True)
class AdapterPackage:
    """An adapter's files and their metadata. The same publication always has the same package."""

    publication_id: str
    job_id: str
    job_name: str | None
    team: str
    strategy: Strategy
    digest: str
    base_model: str
    files: Mapping[str, Path]
    """By their path in the published folder; without README.md, which is `card`."""
    card: str
    parameters: Mapping[str, str]
    """The resolved specification, by dotted path."""
    evaluation: EvaluationDocument
    created_ms: int
    """The time of the request to publish, in milliseconds since 1970."""


class Published(NamedTuple):
    """The address and the version of a published adapter."""

    url: str
    version: str


class Publisher(Protocol):
    """Publishes to one place.

    Publishing a package again must lead to the same state there, whatever an earlier attempt left.
    """

    def publish(self, package: AdapterPackage, target: PublishTarget) -> Published:
        """Publish. Raises PublishingRefused if people must act, Unavailable if a later attempt may succeed."""
        ...


_CARD = "README.md"
_METHOD = "https://arxiv.org/abs/2410.06913"
_NOT_ONE_LINE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#])")


def package_of(
    row: Publication, job: Job, dataset: Dataset | None, target: PublishTarget, results: StoredResults
) -> AdapterPackage:
    """Build the package. `dataset` is None if it was deleted.

    Raises NotFound if an artifact has expired, ArtifactDamaged, Unavailable.
    """
    resolved = ResolvedJob.model_validate(job.resolved)
    folder = results.folder(job.id, package_stage(row.strategy), row.artifact) / ADAPTER_FOLDER
    evaluated = results.folder(job.id, evaluate_stage(row.strategy), row.evaluation)
    evaluation = (evaluated / EVALUATION_FILE).read_bytes()
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return AdapterPackage(
        publication_id=row.id,
        job_id=job.id,
        job_name=job.name,
        team=job.team,
        strategy=row.strategy,
        digest=row.artifact_digest,
        base_model=resolved.model.id,
        files={path.relative_to(folder).as_posix(): path for path in paths if path != folder / _CARD},
        card=_card(row, resolved, dataset, target, folder),
        parameters=resolved_parameters(resolved),
        evaluation=EvaluationDocument.model_validate_json(evaluation),
        created_ms=int(row.created_at.timestamp() * 1000),
    )


def _card(row: Publication, resolved: ResolvedJob, dataset: Dataset | None, target: PublishTarget, folder: Path) -> str:
    packaged = folder / _CARD
    card = packaged.read_text(encoding="utf-8") if packaged.is_file() else f"# LoRA adapter of {resolved.model.id}\n"
    if isinstance(target, HubTarget):
        # The packaged card names the folder of the unpacked archive.
        card = card.replace(f'"{ADAPTER_FOLDER}"', json.dumps(target.repo))
    return card.rstrip() + "\n\n" + "\n".join(_provenance(row, resolved, dataset)) + "\n"


def _provenance(row: Publication, resolved: ResolvedJob, dataset: Dataset | None) -> Iterator[str]:
    yield "## Provenance"
    yield ""
    yield f"- Method: [CRaFT]({_METHOD}), strategy `{row.strategy.value}`, seed {resolved.spec.seed}"
    yield f"- Base model: {resolved.model.id}, revision {resolved.model.revision}, SHA-256 `{resolved.model.digest}`"
    if dataset is not None:
        name = f"{_plain(dataset.name)}, " if dataset.name else ""
        yield f"- Dataset: {name}`{dataset.id}`, {dataset.rows:,} questions, SHA-256 `{dataset.digest}`"
    yield f"- Job: `{row.job_id}`"
    yield f"- Adapter: SHA-256 `{row.artifact_digest}` over the packaged files"


def _plain(text: str) -> str:
    """Return a user's text as one line of Markdown, escaped."""
    return _MARKDOWN.sub(r"\\\1", _NOT_ONE_LINE.sub(" ", text)).strip()
