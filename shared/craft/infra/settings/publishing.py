"""Settings of publishing: MLflow, the model hub and retries."""

from pydantic import BaseModel, Field, SecretStr


class MlflowSettings(BaseModel):
    """The MLflow tracking server that adapters are published to."""

    tracking_uri: str = Field(pattern=r"^https?://[^\s/@]+[^\s@]*$", description="Its base URL, without a password.")
    username: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = Field(None, description="A bearer token instead of a name and a password.")
    experiment: str = Field(
        "craft", min_length=1, max_length=200, description="The experiment of the runs; created if missing."
    )


class ModelHubSettings(BaseModel):
    """The model hub that adapters are published to."""

    token: SecretStr = Field(description="A token of a user or organisation that may write there.")
    endpoint: str = Field("https://huggingface.co", pattern=r"^https?://[^\s/@]+[^\s@]*$")
    owners: list[str] = Field(
        default_factory=list,
        description="Users and organisations under which teams may publish; empty: wherever the token may write.",
    )


class PublishingSettings(BaseModel):
    """The places to which finished adapters may be published, by default none, and the retries."""

    mlflow: MlflowSettings | None = None
    hub: ModelHubSettings | None = None
    timeout_seconds: float = Field(60.0, gt=0.0, description="Time limit for a call that receives nothing.")
    max_attempts: int = Field(8, ge=1, le=100)
    first_pause_seconds: float = Field(5.0, gt=0.0, description="Pause after a failed attempt; doubles with each.")
    longest_pause_seconds: float = Field(900.0, gt=0.0)
    lease_seconds: float = Field(60.0, gt=0.0, description="Time after which a publisher that died is replaced.")
