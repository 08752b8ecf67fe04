"""Settings of the datasets service and of the sources that it may fetch from."""

from pydantic import BaseModel, Field, SecretStr

from craft.infra.settings.listen import Listen


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
