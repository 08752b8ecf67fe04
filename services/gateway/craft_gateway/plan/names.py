"""Names of stages that others look for, and a job's resolved parameters by dotted path."""

import json
from collections.abc import Iterator, Mapping

from craft.contracts.stages.kinds import StageKind
from craft.core.selection import Strategy
from craft_gateway.plan.stages import ResolvedJob

REPORT_STAGE = "report"


def package_stage(strategy: Strategy) -> str:
    """The name of the stage whose artifact holds the strategy's adapter."""
    return f"{StageKind.PACKAGE.value}:{strategy.value}"


def flattened(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value by its dotted path; lists, which have an order and no names, are leaves."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flattened(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def resolved_parameters(resolved: ResolvedJob) -> Mapping[str, object]:
    spec = resolved.spec.model_dump(mode="json", exclude={"labels": True, "name": True, "dataset": {"rows"}})
    further = resolved.model_dump(mode="json", include={"model", "engine", "trainer", "embedder"})
    return spec | further
