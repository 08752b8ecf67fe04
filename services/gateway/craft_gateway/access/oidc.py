"""Identifies callers by bearer tokens of the company's identity provider (OpenID Connect).

The provider's keys are cached. Groups are roles: members of `craft:search:editor` are editors of the team `search`,
members of `craft:operator` are operators.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import jwt

from craft.contracts.public.accounts import SCOPES_OF, Role, Scope
from craft.errors import Unauthenticated, Unavailable
from craft.infra.settings.gateway import OidcSettings
from craft_gateway.access.identity import Identity

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Asymmetric algorithms only: with HS256 anyone who knows the issuer's public key could sign."""
_DISCOVERY = "/.well-known/openid-configuration"
_TIMEOUT_SECONDS = 5.0
_KEYS_LIFETIME_SECONDS = 3600.0
_REFETCH_SECONDS = 30.0
"""A token that names an unknown key makes the keys be fetched again, but not more often than this."""
_LEEWAY_SECONDS = 30
_MAX_SUBJECT_LENGTH = 200
_OPERATOR = "operator"


class Oidc:
    """The tokens of one issuer."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        http: httpx.Client | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._http = http or httpx.Client(timeout=_TIMEOUT_SECONDS)
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str | None, Any] = {}
        self._fetched_at: float | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def identify(self, token: str) -> Identity:
        """Return the identity of the token's owner. Raises Unauthenticated, Unavailable (the issuer is silent)."""
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(
                f"The token is not valid: {error}", hint=f"Get a new one from {self._settings.issuer}."
            ) from None
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        claim = claims.get(self._settings.groups_claim) or ()
        groups = [group for group in ([claim] if isinstance(claim, str) else claim) if isinstance(group, str)]
        grants: dict[str, frozenset[Scope]] = {}
        for team, role in _roles(groups, prefix=self._settings.group_prefix):
            grants[team] = grants.get(team, frozenset()) | SCOPES_OF[role]
        operator = f"{self._settings.group_prefix}{_OPERATOR}" in groups
        if not grants and not operator:
            raise Unauthenticated(
                "The token's groups name no team of this installation.",
                hint=f"Groups such as {self._settings.group_prefix}search:editor, in the claim "
                f"`{self._settings.groups_claim}`, give roles in teams.",
            )
        return Identity(f"oidc:{str(claims['sub'])[:_MAX_SUBJECT_LENGTH]}", grants, operator=operator)

    def _key(self, key_id: str | None) -> Any:
        with self._lock:
            now = self._clock()
            age = None if self._fetched_at is None else now - self._fetched_at
            if age is None or age > _KEYS_LIFETIME_SECONDS or (key_id not in self._keys and age > _REFETCH_SECONDS):
                self._fetched_at = now
                self._keys = self._fetch_keys() or self._keys
            if not self._keys:
                raise Unavailable(f"{self._settings.issuer} does not answer.", hint="Try again in a minute.")
            if key_id is None and len(self._keys) == 1:
                return next(iter(self._keys.values()))
            if key_id not in self._keys:
                raise jwt.InvalidKeyError("it is signed with a key that the issuer does not publish")
            return self._keys[key_id]

    def _fetch_keys(self) -> dict[str | None, Any]:
        """Return the issuer's keys by id; empty where it does not answer, so that the cached keys stay in use."""
        try:
            configuration = self._http.get(self._settings.issuer.rstrip("/") + _DISCOVERY).raise_for_status().json()
            keys = self._http.get(str(configuration["jwks_uri"])).raise_for_status().json()
            return {key.key_id: key for key in jwt.PyJWKSet.from_dict(keys).keys}
        except (httpx.HTTPError, ValueError, KeyError, TypeError, jwt.PyJWTError):
            return {}


def _roles(groups: Iterable[str], *, prefix: str) -> Iterable[tuple[str, Role]]:
    for group in groups:
        team, _, role = group.removeprefix(prefix).rpartition(":")
        if group.startswith(prefix) and team and role in set(Role):
            yield team, Role(role)
