"""Settings of the datasets service and of its sources."""

from pydantic import BaseModel, Field, SecretStr

from craft.infra.settings.listen import Listen


class HubSettings(BaseModel):
    """The model hub as a source of datasets."""

    url: str = "https://huggingface.co"
    token: SecretStr | None = Field(
        None, description="Every team can make datasets of everything that this token can read."
    )


class S3Settings(BaseModel):
    """S3 as a source of datasets. AWS's own variables and files give the credentials: AWS_ACCESS_KEY_ID, …"""

    endpoint: str | None = Field(None, description="The https address of an S3 service other than AWS.")
    region: str = "us-east-1"
    buckets: list[str] = Field(
        default_factory=list, description="Every team can make datasets of the objects in these buckets."
    )


class DatasetsSettings(Listen):
    """The datasets service."""

    port: int = 8081
    max_rows: int = 1_000_000
    max_line_bytes: int = 1_000_000
    max_upload_bytes: int = Field(256 * 2**20, description="Limit for uploads and fetched files.")
    readings_at_once: int = Field(
        3, ge=1, le=64, description="Files that are read at once; each takes up to 1 GiB of memory and a core."
    )
    fetch_seconds: float = Field(240.0, gt=0.0, description="Time limit for a whole download.")
    fetch_idle_seconds: float = Field(20.0, gt=0.0, description="Time limit for a source that sends nothing.")
    hub: HubSettings = HubSettings()
    s3: S3Settings = S3Settings()
