"""Settings, read once at the edge from `CRAFT_…` environment variables (`CRAFT_INFERENCE__PORT=8082`) and passed in."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from craft.contracts.retention import RetentionClass
from craft.contracts.stages import EngineRef
from craft.infra.addresses import is_loopback

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Listen(BaseModel):
    """Where an HTTP server listens. Loopback unless told otherwise."""

    host: str = "127.0.0.1"
    port: int

    @property
    def url(self) -> str:
        """Base URL for callers on the same machine."""
        return f"http://{self.host}:{self.port}"


class OidcSettings(BaseModel):
    """The company's identity provider, whose tokens the gateway takes beside its own keys."""

    issuer: str = Field(description="Its URL, exactly as tokens name it; keys are found by OpenID Connect discovery.")
    audience: str = Field(description="What tokens for this installation say in `aud`.")
    groups_claim: str = "groups"
    group_prefix: str = "craft:"


class GatewaySettings(Listen):
    """The public API."""

    port: int = 8080
    max_body_bytes: int = 256 * 2**20
    operator_key: SecretStr | None = Field(
        None, min_length=32, description="Opens everything, in any team: for making the first teams and keys."
    )
    oidc: OidcSettings | None = None
    requests_per_second: float | None = Field(
        100.0, gt=0.0, description="Of one key, on one replica; none for callers without a key on this machine."
    )
    requests_at_once: int = Field(200, ge=1, description="How many of them may come in one moment.")

    @property
    def keyless(self) -> bool:
        """Whether a caller needs no key: on this machine only, and only where nobody set up any."""
        return is_loopback(self.host) and self.operator_key is None and self.oidc is None


class OutboundSettings(BaseModel):
    """Where the system may call on a user's behalf."""

    allowed_hosts: list[str] = Field(
        default_factory=list, description="Hosts that may have private addresses, and be reached without TLS."
    )


class WebhookSettings(BaseModel):
    """Messages to what users name; the gateway keeps the webhooks, the coordinator sends."""

    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Encrypts the secrets of webhooks in the database, the same for gateway and coordinator; by "
        "default it is made in the state folder, in a file for the owner only.",
    )
    old_key: SecretStr | None = Field(None, min_length=32, description="The one before: secrets are still read by it.")
    keep_days: float = Field(7.0, gt=0.0, le=36_500.0, description="How long a delivery that has ended is shown.")
    at_once_per_host: int = Field(4, ge=1, description="Messages to one host at a time, of one coordinator.")


class MlflowSettings(BaseModel):
    """The MLflow tracking server that adapters are published to."""

    tracking_uri: str = Field(pattern=r"^https?://[^\s/@]+[^\s@]*$", description="Its base URL, without a password.")
    username: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = Field(None, description="A bearer token, instead of a name and a password.")
    experiment: str = Field("craft", min_length=1, max_length=200, description="Where runs are kept; made if missing.")


class ModelHubSettings(BaseModel):
    """The model hub that adapters are published to."""

    token: SecretStr = Field(description="Of a user or organisation that may write there.")
    endpoint: str = Field("https://huggingface.co", pattern=r"^https?://[^\s/@]+[^\s@]*$")
    owners: list[str] = Field(
        default_factory=list,
        description="Users and organisations below which teams may publish; empty: wherever the token may write.",
    )


class PublishingSettings(BaseModel):
    """Where finished adapters may be published to, and how patiently. Nowhere, unless told."""

    mlflow: MlflowSettings | None = None
    hub: ModelHubSettings | None = None
    timeout_seconds: float = Field(60.0, gt=0.0, description="Of one call without a sign of life.")
    max_attempts: int = Field(8, ge=1, le=100)
    first_pause_seconds: float = Field(5.0, gt=0.0, description="After a failed attempt; doubles with each.")
    longest_pause_seconds: float = Field(900.0, gt=0.0)
    lease_seconds: float = Field(60.0, gt=0.0, description="A publisher that died is replaced after this time.")


class CoordinatorSettings(Listen):
    """The process that owns leases and sends messages; workers call it, users never do."""

    port: int = 8085
    lease_seconds: float = 90.0
    beat_seconds: float = Field(
        2.0,
        description="How often a worker renews a lease, and so hears of a cancel: with the workers' stop_seconds on "
        "top, a worker is free in less than 5 s.",
    )
    sweep_seconds: float = 1.0
    resend_seconds: float = 60.0
    max_lost_attempts: int = 3
    stage_timeout_seconds: float = 24 * 3600.0
    min_free_bytes: int = Field(
        2**30, ge=0, description="With less than this free for artifacts no stage starts; 0 switches that off."
    )


class HubSettings(BaseModel):
    """The model hub, as a source of datasets."""

    url: str = "https://huggingface.co"
    token: SecretStr | None = Field(None, description="What it may read, every team can make datasets of.")


class S3Settings(BaseModel):
    """S3, as a source of datasets. Credentials come from where AWS's own tools look for them: AWS_ACCESS_KEY_ID, …"""

    endpoint: str | None = Field(None, description="Of another service than AWS: its https address.")
    region: str = "us-east-1"
    buckets: list[str] = Field(default_factory=list, description="Those of which every team can make datasets.")


class DatasetsSettings(Listen):
    """The datasets service."""

    port: int = 8081
    max_rows: int = 1_000_000
    max_line_bytes: int = 1_000_000
    max_upload_bytes: int = Field(256 * 2**20, description="Of an upload, and of what is fetched.")
    fetch_seconds: float = Field(240.0, gt=0.0, description="A source that has not sent everything by then is left.")
    fetch_idle_seconds: float = Field(20.0, gt=0.0, description="A source that is silent for so long is left.")
    hub: HubSettings = HubSettings()
    s3: S3Settings = S3Settings()


def _a_rank_of_vllm(rank: int) -> int:
    if rank not in _LORA_RANKS:
        raise ValueError(f"vLLM knows the ranks {', '.join(map(str, _LORA_RANKS))}")
    return rank


class VllmSettings(BaseModel):
    """vLLM, where the engine is "vllm": its server's command line, and how the service uses it."""

    url: str | None = Field(None, description="A vLLM server that the team runs already; then none is started here.")
    api_key: SecretStr | None = Field(None, description="What the team's own server asks for.")
    python: Path | None = Field(None, description="Interpreter of the environment that holds vLLM; ours by default.")
    max_model_len: int | None = Field(None, description="Context in tokens; the model's own by default.")
    max_lora_rank: Annotated[int, AfterValidator(_a_rank_of_vllm)] = 64
    max_loras: int = Field(4, ge=1, description="Adapters in one batch.")
    tensor_parallel_size: int = Field(1, ge=1)
    gpu_memory_utilization: float = Field(0.85, gt=0.0, le=1.0)
    max_num_seqs: int | None = Field(None, description="Sequences in one step; on CPU 256, else vLLM's default.")
    max_num_batched_tokens: int | None = Field(None, description="Tokens in one step; on CPU 4096, else vLLM's own.")
    block_size: int | None = Field(None, description="Tokens of a KV block; on CPU 32 shares what 128 does not.")
    enforce_eager: bool = Field(default=False, description="No compilation: starts sooner, runs slower.")
    cpu_kvcache_gib: int | None = Field(None, description="KV cache on CPU, in GiB.")
    cpu_threads: str | None = Field(None, description='Cores to bind on CPU, such as "0-1".')
    seed_requests: bool = Field(default=True, description="A seed in each request: the same job draws the same.")
    prompts_in_flight: int = Field(64, ge=1, description="Requests sent before the first of them is answered.")
    start_seconds: float = Field(900.0, description="A server that is not ready by then is stopped.")
    idle_seconds: float = Field(600.0, description="A server that nobody used for so long is stopped.")
    extra_arguments: list[str] = Field(default_factory=list, description="Further words of vLLM's command line.")


class ModelServerSettings(Listen):
    """The process beside vLLM that starts it, watches it and stands before it."""

    port: int = 8086


class InferenceSettings(Listen):
    """The inference service."""

    port: int = 8082
    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    questions_per_batch: int = 32
    questions_per_shard: int = 256
    vllm: VllmSettings = VllmSettings()


class ScoringSettings(Listen):
    """The scoring service."""

    port: int = 8083
    embedder: str = "sentence-transformers/all-MiniLM-L6-v2"
    embedding_batch: int = 256


class TrainingSettings_(Listen):  # noqa: N801 - `TrainingSettings` is the job's own contract
    """The training service."""

    port: int = 8084
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    checkpoint_seconds: float = 60.0


class WorkerSettings(BaseModel):
    """The supervising parent of a stage's child process."""

    give_up_seconds: float = Field(60.0, description="A worker that cannot renew for this long kills its child.")
    grace_seconds: float = Field(5.0, description="From SIGTERM to the worker's end; a stage gets half of it to save.")
    stop_seconds: float = Field(2.5, description="What a stage gets to save where its job is cancelled or paused.")
    memory_bytes: int | None = None
    device_lock: Path | None = Field(
        None, description="Workers that are given the same file compute one at a time: one processor for all of them."
    )
    warm_seconds: float = Field(300.0, description="How long an idle child keeps its model loaded.")


def _never(given: object) -> object:
    return None if given == "never" else given


Days = Annotated[Annotated[float, Field(ge=0.0, le=36_500.0)] | None, BeforeValidator(_never)]
"""A lifetime; "never" (None) is without end."""
_SomeDays = Annotated[Annotated[float, Field(gt=0.0, le=36_500.0)] | None, BeforeValidator(_never)]
"""A lifetime of what may still be written to: none at all would remove it meanwhile."""


class RetentionSettings(BaseModel):
    """How long after the last job that used it something is kept; see `RetentionClass`."""

    result_days: Days = 365.0
    model_days: Days = 30.0
    intermediate_days: Days = 30.0
    checkpoint_days: Days = 7.0
    scratch_days: _SomeDays = 1.0
    orphan_days: _SomeDays = 1.0
    log_days: Days = Field(90.0, description="Log lines of a job that has ended, in the database.")
    sweep_seconds: float = Field(3600.0, gt=0.0, description="Pause between two rounds of the sweep.")

    def lifetime(self, of: RetentionClass) -> timedelta | None:
        """How long something of that class is kept; None is for ever."""
        return _lifetime(getattr(self, f"{of.value}_days"))

    @property
    def log_lifetime(self) -> timedelta | None:
        """How long log lines are kept after their job's end; None is for ever."""
        return _lifetime(self.log_days)


def _lifetime(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


class Settings(BaseSettings):
    """All settings of all services: one environment describes a deployment."""

    model_config = SettingsConfigDict(env_prefix="CRAFT_", env_nested_delimiter="__", extra="ignore")

    state_dir: Path = Path(".craft")
    database_url: str | None = Field(None, description="SQLAlchemy URL; by default SQLite below the state folder.")
    broker_url: str | None = Field(None, description="redis:// URL; by default the local server's Unix socket.")
    artifacts_dir: Path | None = None
    models_dir: Path | None = None
    adapters_dir: Path | None = Field(None, description="Where vLLM finds the adapters that it may serve.")
    datasets_url: str | None = None
    model_server_url: str | None = None
    coordinator_url: str | None = None
    worker_token: SecretStr = SecretStr("local-workers")
    model_server_token: SecretStr = Field(
        SecretStr("local-models"), description="Opens the model server only: a stage's process gets this one."
    )
    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str | None = Field(None, description="Base URL of an OTLP/HTTP collector; traces are sent there.")

    gateway: GatewaySettings = GatewaySettings()
    coordinator: CoordinatorSettings = CoordinatorSettings()
    datasets: DatasetsSettings = DatasetsSettings()
    inference: InferenceSettings = InferenceSettings()
    model_server: ModelServerSettings = ModelServerSettings()
    scoring: ScoringSettings = ScoringSettings()
    training: TrainingSettings_ = TrainingSettings_()
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
        """Where stages and the gateway find the model server."""
        return self.model_server_url or self.model_server.url

    @property
    def resolved_datasets_url(self) -> str:
        """Where the gateway finds the datasets service."""
        return self.datasets_url or self.datasets.url

    @property
    def resolved_coordinator_url(self) -> str:
        """Where workers find the coordinator."""
        return self.coordinator_url or self.coordinator.url


def engine_ref(settings: InferenceSettings) -> EngineRef:
    """The engine of this deployment, as stages name it."""
    return EngineRef(
        name=settings.engine,
        dtype=settings.dtype,
        questions_per_batch=settings.questions_per_batch,
        questions_per_shard=settings.questions_per_shard,
    )
