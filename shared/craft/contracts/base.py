"""What every model that crosses a process has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

JOB_ID = r"^cjob_[0-9a-hjkmnp-tv-z]{26}$"
DATASET_ID = r"^dset_[0-9a-hjkmnp-tv-z]{26}$"
ADAPTER_ID = r"^adpt_[0-9a-hjkmnp-tv-z]{26}$"
NAME = r"^[a-z0-9][a-z0-9._-]{0,99}$"
SHA256 = r"^[0-9a-f]{64}$"

Digest = Annotated[str, Field(pattern=SHA256)]
"""Lower-case hex of a SHA-256."""


class Contract(BaseModel):
    """Immutable and strict about names: an unknown field is an error, not a surprise later."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")
