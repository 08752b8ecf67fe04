"""The strategies that a job may name, and the parameters of selection."""

from dataclasses import dataclass
from enum import StrEnum

from craft.errors import RequestInvalid


class Strategy(StrEnum):
    """The ways to choose the tuning set."""

    CRAFT = "craft"
    CRAFT_NO_FLOW = "craft-no-flow"
    CRAFT_NO_CERTAINTY = "craft-no-certainty"
    COR_RAIT = "cor-rait"
    VAN_TUNING = "van-tuning"

    @property
    def needs_flow(self) -> bool:
        """True if the strategy needs the states of a rehearsed model."""
        return self in {Strategy.CRAFT, Strategy.CRAFT_NO_CERTAINTY}

    @property
    def by_certainty(self) -> bool:
        """True if candidates are taken by certainty; otherwise a seeded random draw takes them."""
        return self in {Strategy.CRAFT, Strategy.CRAFT_NO_FLOW}


class FlowRule(StrEnum):
    """IMPROVED drops Δmu > margin; PAPER (Algorithm 1 as printed) drops Δmu ≥ margin, so that mu = 0 is never idk."""

    IMPROVED = "improved"
    PAPER = "paper"


class Shortage(StrEnum):
    """The rule for too few candidates: SHRINK keeps the ratio, FILL takes more of the other kind, ERROR fails."""

    SHRINK = "shrink"
    FILL = "fill"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRule:
    """tau and margin of the method, the wanted sizes and the random seed. Raises RequestInvalid if out of range."""

    n_van: int
    n_idk: int
    seed: int
    tau: float = 0.5
    margin: float = 0.0
    flow_rule: FlowRule = FlowRule.IMPROVED
    shortage: Shortage = Shortage.SHRINK

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise RequestInvalid("tau must be from 0 to 1", param="tau")
        if not -1 <= self.margin <= 1:
            raise RequestInvalid("margin must be from -1 to 1", param="margin")
        if self.n_van < 0 or self.n_idk < 0 or self.n_van + self.n_idk == 0:
            raise RequestInvalid("n_van and n_idk must not be negative, nor both 0", param="n_van")
