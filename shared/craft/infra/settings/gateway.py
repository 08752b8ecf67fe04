"""Settings of the gateway: address, access, outbound calls and webhooks."""

from pydantic import BaseModel, Field, SecretStr

from craft.infra.settings.addresses import is_loopback
from craft.infra.settings.listen import Listen


class OidcSettings(BaseModel):
    """The company's identity provider. The gateway accepts its tokens beside its own keys."""

    issuer: str = Field(description="Its URL, exactly as in tokens. OpenID Connect discovery finds its keys.")
    audience: str = Field(description="The `aud` of tokens for this installation.")
    groups_claim: str = "groups"
    group_prefix: str = "craft:"


class GatewaySettings(Listen):
    """The public API."""

    port: int = 8080
    max_body_bytes: int = 256 * 2**20
    operator_key: SecretStr | None = Field(
        None, min_length=32, description="Has all rights in every team; it creates the first teams and keys."
    )
    oidc: OidcSettings | None = None
    requests_per_second: float | None = Field(
        100.0, gt=0.0, description="Limit for one key on one replica; callers without a key on this machine have none."
    )
    requests_at_once: int = Field(200, ge=1, description="How many of these requests may come at once.")
    open_requests_per_key: int = Field(
        200,
        ge=1,
        description="Requests of one key that are under way: event streams and waiting polls stay so for long.",
    )
    open_requests_per_team: int = Field(400, ge=1, description="The same for all keys of a team.")

    @property
    def keyless(self) -> bool:
        """True if callers need no key: only on loopback, and only where neither operator key nor OIDC is set."""
        return is_loopback(self.host) and self.operator_key is None and self.oidc is None


class OutboundSettings(BaseModel):
    """The hosts that the system may call for users."""

    allowed_hosts: list[str] = Field(
        default_factory=list, description="Hosts that may have private addresses and may be called without TLS."
    )


class WebhookSettings(BaseModel):
    """Messages to users' own addresses. The gateway stores webhooks; the coordinator sends the messages."""

    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Encrypts the secrets of webhooks in the database; the same for gateway and coordinator. By "
        "default a file in the state folder that only its owner can read.",
    )
    old_key: SecretStr | None = Field(None, min_length=32, description="The previous key; it still decrypts secrets.")
    keep_days: float = Field(7.0, gt=0.0, le=36_500.0, description="How long finished deliveries are shown.")
    at_once_per_host: int = Field(4, ge=1, description="Simultaneous messages of one coordinator to one host.")
