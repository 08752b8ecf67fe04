"""Deploys adapters of jobs: gives them names, and copies them to the folder that the model server reads."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from craft.contracts.base import ADAPTER_ID
from craft.contracts.events import EventType
from craft.contracts.public.serving import AdapterDeployment, DeploymentLinks
from craft.contracts.services.model_server import ServedBase
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.names import package_stage
from craft.contracts.stages.rows import ADAPTER_FOLDER
from craft.core.strategies import Strategy
from craft.errors import ArtifactDamaged, Conflict, NotFound
from craft.infra.ids import new_id
from craft.infra.models.folders import served_path
from craft.infra.settings.inference import VllmSettings
from craft.infra.storage.artifacts import ArtifactStore
from craft.infra.storage.served_adapters import ServedAdapters
from craft_gateway.access.owners import no_model
from craft_gateway.http.responses import OPENAI_ROOT, ROOT
from craft_gateway.job_views.reader import JobReader
from craft_gateway.job_views.stored_results import StoredResults
from craft_gateway.jobs.checks import check_servable
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.retention.uses import lock_artifact
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Deployment, Job


def deployment_view(row: Deployment) -> AdapterDeployment:
    """Return a deployment as the API shows it."""
    return AdapterDeployment(
        id=row.id,
        model=row.id,
        job_id=row.job_id,
        strategy=row.strategy,
        base_model=ServedBase.model_validate(row.base).model.id,
        created_at=row.created_at,
        links=DeploymentLinks(
            job=f"{ROOT}/jobs/{row.job_id}",
            model=f"{OPENAI_ROOT}/models/{row.id}",
            chat_completions=f"{OPENAI_ROOT}/chat/completions",
        ),
    )


_MAX_LISTED = 1000
_NO_ENGINE_HINT = "Set CRAFT_INFERENCE__ENGINE=vllm and start the model server: only vLLM serves adapters."


@dataclass(frozen=True, slots=True)
class Deployed:
    """The deployment of an adapter. `repeated`: an earlier call created it."""

    row: Deployment
    repeated: bool


class Deployments:
    """Deployed adapters by name. `vllm` is None if this installation's engine cannot serve adapters."""

    def __init__(
        self,
        database: Database,
        reader: JobReader,
        *,
        store: ArtifactStore,
        adapters: ServedAdapters,
        vllm: VllmSettings | None,
    ) -> None:
        self._database = database
        self._reader = reader
        self._results = StoredResults(database, store)
        self._adapters = adapters
        self._serves = vllm is not None
        self._vllm = vllm

    @property
    def serves(self) -> bool:
        """True if this installation serves adapters."""
        return self._serves

    def deploy(self, job_id: str, strategy: Strategy) -> Deployed:
        """Deploy the adapter, or return its deployment where it has one.

        Raises NotFound; Conflict if the adapter is not finished or this installation serves no adapters;
        ArtifactDamaged; RequestInvalid if vLLM would refuse to load it.
        """
        ref = self._finished_adapter(job_id, strategy)
        with self._database.read() as session:
            existing = _find(session, job_id, strategy)
            now = self._database.now(session)
        if existing is not None:
            self._publish(existing)
            return Deployed(existing, repeated=True)
        return self._deploy_first(job_id, strategy, ref, now)

    def withdraw(self, job_id: str, strategy: Strategy) -> None:
        """Withdraw the adapter, if it is deployed. Raises NotFound if the job does not exist."""
        self._reader.last_event(job_id)
        with self._database.write() as session:
            transaction = JobTransaction.open(session, self._database.now, job_id)
            row = _find(session, job_id, strategy)
            if row is None:
                return
            session.delete(row)
            transaction.emit(EventType.ADAPTER_WITHDRAWN, model=row.id, strategy=strategy.value)
        self._adapters.withdraw(row.id)

    def listed(self, team: str) -> Sequence[Deployment]:
        """Return the team's deployments, newest first."""
        if not self._serves:
            return []
        of_team = select(Deployment).join(Job, col(Job.id) == col(Deployment.job_id)).where(Job.team == team)
        query = of_team.order_by(col(Deployment.id).desc()).limit(_MAX_LISTED)
        with self._database.read() as session:
            return session.exec(query).all()

    def find(self, model: str) -> Deployment:
        """Return the deployment of that name. Raises NotFound."""
        if not self._serves:
            raise NotFound(f"No model is served here. {_NO_ENGINE_HINT}")
        with self._database.read() as session:
            row = session.get(Deployment, model) if re.fullmatch(ADAPTER_ID, model) else None
        if row is None:
            raise no_model(model)
        return row

    def base_of(self, model: str) -> ServedBase:
        """Copy the adapter to the model server's folder if it is missing or damaged there; return its base model.

        Raises NotFound.
        """
        row = self.find(model)
        # The folder's volume may be new and empty. Without the artifact, the model server answers that it has no model.
        with suppress(NotFound, ArtifactDamaged):
            self._publish(row)
        return ServedBase.model_validate(row.base)

    def _finished_adapter(self, job_id: str, strategy: Strategy) -> ArtifactRef:
        self._reader.last_event(job_id)  # raises NotFound for an unknown job, whatever the engine
        if self._vllm is None:
            raise Conflict("This installation's engine serves no adapters.", hint=_NO_ENGINE_HINT)
        # The job may have been accepted when this installation served no adapters, or had other limits.
        check_servable(self._reader.resolved(job_id).spec, self._vllm)
        return self._reader.output(job_id, package_stage(strategy))

    def _deploy_first(self, job_id: str, strategy: Strategy, ref: ArtifactRef, now: datetime) -> Deployed:
        resolved = self._reader.resolved(job_id)
        base = ServedBase(model=resolved.model.weights, dtype=resolved.engine.dtype)
        row = Deployment(
            id=new_id("adpt"),
            job_id=job_id,
            strategy=strategy,
            artifact_key=ref.key,
            artifact_digest=ref.digest,
            base=base.model_dump(mode="json"),
            created_at=now,
        )
        # Files first, then the row: an adapter that cannot be copied must not count as deployed.
        self._publish(row)
        try:
            with self._database.write() as session:
                transaction = JobTransaction.open(session, self._database.now, job_id)
                # The lock on the job orders concurrent calls: the second one finds the row of the first.
                existing = _find(session, job_id, strategy)
                if existing is None:
                    lock_artifact(session, ref)
                    session.add(row)
                    transaction.emit(EventType.ADAPTER_DEPLOYED, model=row.id, strategy=strategy.value)
        except BaseException:
            self._adapters.withdraw(row.id)
            raise
        if existing is None:
            return Deployed(row, repeated=False)
        self._adapters.withdraw(row.id)
        self._publish(existing)
        return Deployed(existing, repeated=True)

    def _publish(self, row: Deployment) -> None:
        base = ServedBase.model_validate(row.base)
        folder = self._results.folder(row.job_id, package_stage(row.strategy), row.artifact) / ADAPTER_FOLDER
        self._adapters.publish(row.id, folder, base_model=served_path(base.model))


def _find(session: Session, job_id: str, strategy: Strategy) -> Deployment | None:
    return session.exec(
        select(Deployment).where(Deployment.job_id == job_id, Deployment.strategy == strategy)
    ).one_or_none()
