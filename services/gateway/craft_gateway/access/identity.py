"""Who calls, and what they may do in which team."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from craft.contracts.public.accounts import DEFAULT_TEAM, SCOPES_OF, Role, Scope
from craft.errors import Forbidden, RequestInvalid

_ALL = SCOPES_OF[Role.ADMIN]
_actor: ContextVar[str | None] = ContextVar("craft_actor", default=None)


def current_actor() -> str | None:
    """Who the request at hand is from; None where the system acts by itself."""
    return _actor.get()


def act_as(actor: str) -> None:
    """What follows in this request is `actor`'s doing."""
    _actor.set(actor)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody in one team. An operator may also look at what is other teams'."""

    actor: str
    team: str
    scopes: frozenset[Scope]
    teams: tuple[str, ...] = ()
    operator: bool = False

    def require(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if scope not in self.scopes:
            raise Forbidden(
                f"This key does not have {scope.value} in team {self.team}.",
                hint="`GET /craft/me` says what it may do; an admin of the team makes others.",
            )


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whose key or token was found right. `grants` are by team; an operator has all of them in every team."""

    actor: str
    grants: Mapping[str, frozenset[Scope]]
    operator: bool = False

    def require_operator(self) -> None:
        """Raises Forbidden."""
        if not self.operator:
            raise Forbidden("Only an operator of the installation may do this.", hint="Ask who runs this server.")

    def in_team(self, name: str | None) -> Caller:
        """The caller in the team that the request names.

        Raises Forbidden for a team that is not theirs, RequestInvalid where they must say which of several.
        """
        mine = tuple(sorted(self.grants))
        team = self._own(mine) if name is None else name
        if team is None:
            raise RequestInvalid(
                f"You are in {len(mine)} teams.",
                hint=f"Say with the header Craft-Team which one: {', '.join(mine[:20])}.",
                param="Craft-Team",
            )
        if self.operator:
            return Caller(self.actor, team, _ALL, mine, operator=True)
        if team not in self.grants:
            raise Forbidden(
                "You are not in this team.", hint="Leave Craft-Team out, or name a team of `GET /craft/me`."
            )
        return Caller(self.actor, team, self.grants[team], mine)

    def _own(self, mine: Sequence[str]) -> str | None:
        """The team that is meant where none is named; None where that cannot be told."""
        if len(mine) == 1:
            return mine[0]
        return DEFAULT_TEAM if self.operator or DEFAULT_TEAM in mine else None
