"""Settings of the gateway: its address, who may call, where it may call, webhooks."""

from pydantic import BaseModel, Field, SecretStr

from craft.infra.settings.addresses import is_loopback
from craft.infra.settings.listen import Listen


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
