"""From a publication's row to what is published: the adapter's files, its card, its parameters and its metrics."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from craft.contracts.publishing import HubTarget, PublishTarget
from craft.contracts.rest_scoring import EvaluationDocument
from craft.contracts.rows import ADAPTER_FOLDER, EVALUATION_FILE
from craft.infra.artifacts import ArtifactStore
from craft_gateway.plan import ResolvedJob
from craft_gateway.publishers import AdapterPackage
from craft_gateway.tables import Dataset, Job, Publication

_CARD = "README.md"
_METHOD = "https://arxiv.org/abs/2410.06913"
_NOT_ONE_LINE = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#])")


def package_of(
    row: Publication, job: Job, dataset: Dataset | None, target: PublishTarget, store: ArtifactStore
) -> AdapterPackage:
    """All that is published. `dataset` is None where it was deleted. Raises NotFound where an artifact is gone."""
    resolved = ResolvedJob.model_validate(job.resolved)
    folder = store.open(row.artifact) / ADAPTER_FOLDER
    evaluation = (store.open(row.evaluation) / EVALUATION_FILE).read_bytes()
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return AdapterPackage(
        publication_id=row.id,
        job_id=job.id,
        job_name=job.name,
        team=job.team,
        strategy=row.strategy,
        digest=row.artifact_digest,
        base_model=resolved.model.id,
        files={path.relative_to(folder).as_posix(): path for path in found if path != folder / _CARD},
        card=_card(row, resolved, dataset, target, folder),
        parameters=dict(flattened(_parameters(resolved))),
        evaluation=EvaluationDocument.model_validate_json(evaluation),
        created_ms=int(row.created_at.timestamp() * 1000),
    )


def flattened(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value by its dotted path; lists, which have an order and no names, are leaves."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flattened(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parameters(resolved: ResolvedJob) -> Mapping[str, object]:
    spec = resolved.spec.model_dump(mode="json", exclude={"labels": True, "name": True, "dataset": {"rows"}})
    further = resolved.model_dump(mode="json", include={"model", "engine", "trainer", "embedder"})
    return spec | further


def _card(row: Publication, resolved: ResolvedJob, dataset: Dataset | None, target: PublishTarget, folder: Path) -> str:
    packaged = folder / _CARD
    card = packaged.read_text(encoding="utf-8") if packaged.is_file() else f"# LoRA adapter of {resolved.model.id}\n"
    if isinstance(target, HubTarget):
        # It was written for a folder that somebody has unpacked.
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
    """Users' text as one line of Markdown that means itself."""
    return _MARKDOWN.sub(r"\\\1", _NOT_ONE_LINE.sub(" ", text)).strip()
