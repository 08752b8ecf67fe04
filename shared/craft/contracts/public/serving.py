"""Deployments of adapters in the public API."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import EXAMPLE_ADAPTER_ID, Contract, Moment
from craft.core.strategies import Strategy


class DeployRequest(Contract):
    """The body of `POST /craft/jobs/{id}/deploy`. It is optional if the job has one adapter."""

    strategy: Strategy | None = Field(None, description="Required if the job has several.")


class DeploymentLinks(Contract):
    """Paths on the API's host."""

    job: str
    model: str = Field(examples=[f"/v1/models/{EXAMPLE_ADAPTER_ID}"])
    chat_completions: str = Field(examples=["/v1/chat/completions"])


class AdapterDeployment(Contract):
    """An adapter that `/v1/chat/completions` serves."""

    object: Literal["craft.deployment"] = "craft.deployment"
    id: str = Field(examples=[EXAMPLE_ADAPTER_ID])
    model: str = Field(examples=[EXAMPLE_ADAPTER_ID], description="The `model` for calls of /v1.")
    job_id: str = Field(examples=["cjob_01jgywz3x4v5q6r7s8t9vawbxc"])
    strategy: Strategy
    base_model: str = Field(examples=["HuggingFaceTB/SmolLM2-135M-Instruct"])
    created_at: Moment
    links: DeploymentLinks
