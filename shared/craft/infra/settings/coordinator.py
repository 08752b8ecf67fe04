"""Settings of the coordinator: leases, and how long results are kept."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from craft.contracts.stages.kinds import RetentionClass
from craft.infra.settings.listen import Listen


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
