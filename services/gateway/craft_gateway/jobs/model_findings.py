"""The meaning of a job's model for the job: warnings for report and card, and what this installation cannot serve."""

from collections.abc import Iterator

from craft.core.findings import FindingCode
from craft.errors import FindingDetail, ModelRejected, Severity
from craft.infra.models.architectures import NOT_SERVED
from craft.infra.models.folders import ModelFolder


def model_findings(model: ModelFolder) -> Iterator[FindingDetail]:
    """The warnings about a checked model."""
    row = model.architecture
    if row.experimental:
        yield FindingDetail(
            code=FindingCode.EXPERIMENTAL_MODEL,
            severity=Severity.WARNING,
            message=f"{row.name} is not among the architectures that are tested here; the operator allows it. Its "
            "numbers may be wrong without a sign.",
            hint="Compare some replies with another program's before the results are used.",
            field="base_model",
        )
    if row.experts:
        yield FindingDetail(
            code=FindingCode.EXPERTS_NOT_ADAPTED,
            severity=Severity.WARNING,
            message=f"{model.ref.id} is a mixture of experts. The adapter changes its attention alone: the experts, "
            "which hold most of its weights, stay as they are. The estimate counts it so.",
            hint="A dense model of the same kind can be taught more; a higher training.lora_r helps in part.",
            field="training.target_modules",
        )


def check_files_served(model: ModelFolder) -> None:
    """Raises ModelRejected for a model that vLLM would serve as another one.

    Its code of some architectures gives other numbers, and it reads every safetensors file that no index leaves out.
    """
    if model.architecture.vllm == NOT_SERVED:
        raise ModelRejected(
            f"{model.ref.id} is a {model.architecture.name}, for which vLLM gives other numbers than training.",
            hint="Choose another model, or have CRAFT_INFERENCE__ENGINE=transformers set.",
            param="base_model",
        )
    if model.weights.unread and not model.weights.indexed:
        raise ModelRejected(
            f"{model.ref.id} holds {', '.join(model.weights.unread)[:200]} beside model.safetensors, and vLLM would "
            "load both.",
            hint="Remove the files that are not the model's, or add model.safetensors.index.json, which names those "
            "that are.",
            param="base_model",
        )
