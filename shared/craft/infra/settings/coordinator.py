"""Settings of the coordinator: leases and retention times."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from craft.contracts.stages.kinds import RetentionClass
from craft.infra.settings.listen import Listen


class CoordinatorSettings(Listen):
    """The process that owns leases and sends messages. Workers call it; users never do."""

    port: int = 8085
    lease_seconds: float = 90.0
    beat_seconds: float = Field(
        2.0,
        description="Interval at which a worker renews its lease, and so learns of a cancel. Together with the "
        "workers' stop_seconds, a worker is free in less than 5 s.",
    )
    sweep_seconds: float = Field(2.0, description="Pause between two looks at all leases.")
    resend_seconds: float = 60.0
    max_lost_attempts: int = Field(
        3,
        description="A stage's attempts in a row, without progress in between, in which its worker or its work failed; "
        "then its job fails. An outage of the coordinator or the database counts as none.",
    )
    slice_seconds: float = Field(
        600.0,
        gt=0.0,
        description="A stage that runs so long, and has saved work, gives way where another team's waits.",
    )
    stage_timeout_seconds: float = 24 * 3600.0
    min_free_bytes: int = Field(
        2**30, ge=0, description="No stage starts while less than this is free for artifacts; 0 switches the check off."
    )

    @property
    def silence_seconds(self) -> float:
        """A coordinator that did not look at the leases for this long was away, and its workers were unheard.

        A small part of the time after which a worker gives up, and far more than a slow machine keeps a loop waiting.
        """
        return max(self.lease_seconds / 6, 5 * self.sweep_seconds, 1.0)


def _never(given: object) -> object:
    return None if given == "never" else given


Days = Annotated[Annotated[float, Field(ge=0.0, le=36_500.0)] | None, BeforeValidator(_never)]
"""A retention time in days; "never" (None) means without limit."""
_SomeDays = Annotated[Annotated[float, Field(gt=0.0, le=36_500.0)] | None, BeforeValidator(_never)]
"""The same for files that may still be written to: a time of 0 would remove them meanwhile."""


class RetentionSettings(BaseModel):
    """Retention times after the last job that used an artifact, one for each `RetentionClass`."""

    result_days: Days = 365.0
    model_days: Days = 30.0
    intermediate_days: Days = 30.0
    checkpoint_days: Days = 7.0
    scratch_days: _SomeDays = 1.0
    orphan_days: _SomeDays = 1.0
    damaged_days: Days = Field(30.0, description="Damaged artifacts in `quarantine/`, from when they were found.")
    log_days: Days = Field(90.0, description="Log lines of a finished job, in the database.")
    sweep_seconds: float = Field(3600.0, gt=0.0, description="Pause between two rounds of garbage collection.")

    def lifetime(self, of: RetentionClass) -> timedelta | None:
        """The retention time of a class; None means without limit."""
        return _lifetime(getattr(self, f"{of.value}_days"))

    @property
    def log_lifetime(self) -> timedelta | None:
        """The retention time of log lines after the end of their job; None means without limit."""
        return _lifetime(self.log_days)


def _lifetime(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)
