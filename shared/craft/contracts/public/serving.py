"""Deployments of adapters, as the public API shows them."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import EXAMPLE_ADAPTER_ID, Contract, Moment
from craft.core.strategies import Strategy


class DeployRequest(Contract):
    """The body of `POST /craft/jobs/{id}/deploy`, which may be left out where the job has one adapter."""

    strategy: Strategy | None = Field(None, description="Needed where the job has several.")


class DeploymentLinks(Contract):
    """Paths below the API's host."""

    job: str
    model: str = Field(examples=[f"/v1/models/{EXAMPLE_ADAPTER_ID}"])
    chat_completions: str = Field(examples=["/v1/chat/completions"])


class AdapterDeployment(Contract):
    """An adapter that `/v1/chat/completions` answers with."""

    object: Literal["craft.deployment"] = "craft.deployment"
    id: str = Field(examples=[EXAMPLE_ADAPTER_ID])
    model: str = Field(examples=[EXAMPLE_ADAPTER_ID], description="What to say as `model` in calls of /v1.")
    job_id: str = Field(examples=["cjob_01jgywz3x4v5q6r7s8t9vawbxc"])
    strategy: Strategy
    base_model: str = Field(examples=["HuggingFaceTB/SmolLM2-135M-Instruct"])
    created_at: Moment
    links: DeploymentLinks
