"""The caller of a request: identity, teams and scopes."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from craft.contracts.public.accounts import DEFAULT_TEAM, SCOPES_OF, Role, Scope
from craft.errors import Forbidden, RequestInvalid

_ALL = SCOPES_OF[Role.ADMIN]
_actor: ContextVar[str | None] = ContextVar("craft_actor", default=None)


def current_actor() -> str | None:
    """The actor of the current request; None if the system acts by itself."""
    return _actor.get()


def act_as(actor: str) -> None:
    """Make `actor` the actor of the rest of this request."""
    _actor.set(actor)


@dataclass(frozen=True, slots=True)
class Caller:
    """An actor in one team. An operator may also read what other teams own."""

    actor: str
    team: str
    scopes: frozenset[Scope]
    teams: tuple[str, ...] = ()
    operator: bool = False

    def require(self, scope: Scope) -> None:
        """Check that the caller has the scope. Raises Forbidden."""
        if scope not in self.scopes:
            raise Forbidden(
                f"This key does not have {scope.value} in team {self.team}.",
                hint="`GET /craft/me` lists its scopes; an admin of the team creates other keys.",
            )


@dataclass(frozen=True, slots=True)
class Identity:
    """An actor whose key or token is valid. `grants` are scopes by team; an operator has all scopes in every team."""

    actor: str
    grants: Mapping[str, frozenset[Scope]]
    operator: bool = False

    def require_operator(self) -> None:
        """Check that this is an operator. Raises Forbidden."""
        if not self.operator:
            raise Forbidden(
                "Only an operator of the installation may do this.", hint="Ask the operator of this server."
            )

    def in_team(self, name: str | None) -> Caller:
        """Return the caller in the team that the request names.

        Raises Forbidden for a team that is not theirs, RequestInvalid if they are in several and named none.
        """
        mine = tuple(sorted(self.grants))
        team = self._default_team(mine) if name is None else name
        if team is None:
            raise RequestInvalid(
                f"You are in {len(mine)} teams.",
                hint=f"Name one of them in the header Craft-Team: {', '.join(mine[:20])}.",
                param="Craft-Team",
            )
        if self.operator:
            return Caller(self.actor, team, _ALL, mine, operator=True)
        if team not in self.grants:
            raise Forbidden(
                "You are not in this team.", hint="Leave Craft-Team out, or name a team of `GET /craft/me`."
            )
        return Caller(self.actor, team, self.grants[team], mine)

    def _default_team(self, mine: Sequence[str]) -> str | None:
        """The team of a request that names none; None if several are possible."""
        if len(mine) == 1:
            return mine[0]
        return DEFAULT_TEAM if self.operator or DEFAULT_TEAM in mine else None
