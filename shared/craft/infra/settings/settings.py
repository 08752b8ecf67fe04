"""Settings, read once at the edge from `CRAFT_…` environment variables (`CRAFT_INFERENCE__PORT=8082`) and passed in."""

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from craft.infra.settings.coordinator import CoordinatorSettings, RetentionSettings
from craft.infra.settings.datasets import DatasetsSettings
from craft.infra.settings.gateway import GatewaySettings, OutboundSettings, WebhookSettings
from craft.infra.settings.inference import InferenceSettings, ModelServerSettings
from craft.infra.settings.publishing import PublishingSettings
from craft.infra.settings.scoring import ScoringSettings
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.settings.worker import WorkerSettings


class Settings(BaseSettings):
    """All settings of all services: one environment describes a deployment."""

    model_config = SettingsConfigDict(env_prefix="CRAFT_", env_nested_delimiter="__", extra="ignore")

    state_dir: Path = Path(".craft")
    database_url: str | None = Field(None, description="SQLAlchemy URL; by default SQLite below the state folder.")
    broker_url: str | None = Field(None, description="redis:// URL; by default the local server's Unix socket.")
    artifacts_dir: Path | None = None
    models_dir: Path | None = None
    experimental_models: bool = Field(
        default=False,
        description="Take models too whose architecture is not among the tested ones; their jobs carry a warning.",
    )
    adapters_dir: Path | None = Field(None, description="The folder of the adapters that vLLM may serve.")
    datasets_url: str | None = None
    model_server_url: str | None = None
    coordinator_url: str | None = None
    worker_token: SecretStr = Field(SecretStr(""), description="Token of the coordinator's calls for workers.")
    service_token: SecretStr = Field(SecretStr(""), description="Token of the services' own calls.")
    model_server_token: SecretStr = Field(
        SecretStr(""), description="Token of the model server only, because a stage's process gets it."
    )
    metrics_token: SecretStr | None = Field(
        None, min_length=16, description="Opens /metrics to other machines than this one."
    )
    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str | None = Field(None, description="Base URL of the OTLP/HTTP collector that traces are sent to.")

    gateway: GatewaySettings = GatewaySettings()
    coordinator: CoordinatorSettings = CoordinatorSettings()
    datasets: DatasetsSettings = DatasetsSettings()
    inference: InferenceSettings = InferenceSettings()
    model_server: ModelServerSettings = ModelServerSettings()
    scoring: ScoringSettings = ScoringSettings()
    training: TrainingServiceSettings = TrainingServiceSettings()
    worker: WorkerSettings = WorkerSettings()
    retention: RetentionSettings = RetentionSettings()
    outbound: OutboundSettings = OutboundSettings()
    webhooks: WebhookSettings = WebhookSettings()
    publishing: PublishingSettings = PublishingSettings()

    @property
    def resolved_database_url(self) -> str:
        """The database's URL with the local default filled in."""
        return self.database_url or f"sqlite:///{(self.state_dir / 'craft.db').absolute()}"

    @property
    def resolved_broker_url(self) -> str:
        """The broker's URL with the local default filled in."""
        socket = quote(str((self.state_dir / "valkey.sock").absolute()), safe="/")
        return self.broker_url or f"redis+socket://{socket}"

    @property
    def resolved_artifacts_dir(self) -> Path:
        """The artifact folder with the local default filled in."""
        return (self.artifacts_dir or self.state_dir / "artifacts").absolute()

    @property
    def resolved_models_dir(self) -> Path:
        """The models folder with the local default filled in."""
        return (self.models_dir or self.state_dir / "models").absolute()

    @property
    def resolved_adapters_dir(self) -> Path:
        """The folder of served adapters with the local default filled in."""
        return (self.adapters_dir or self.state_dir / "adapters").absolute()

    @property
    def resolved_model_server_url(self) -> str:
        """The model server's URL, for stages and the gateway."""
        return self.model_server_url or self.model_server.url

    @property
    def resolved_datasets_url(self) -> str:
        """The datasets service's URL, for the gateway."""
        return self.datasets_url or self.datasets.url

    @property
    def resolved_coordinator_url(self) -> str:
        """The coordinator's URL, for workers."""
        return self.coordinator_url or self.coordinator.url
