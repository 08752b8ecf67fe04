"""A job's resolved parameters by dotted path: what is published with its adapter, and compared with other jobs'."""

import json
from collections.abc import Iterator, Mapping

from craft_gateway.plan.stages import NOT_SHOWN, ResolvedJob


def resolved_parameters(resolved: ResolvedJob) -> dict[str, str]:
    """Every parameter that decides the job's result, by its dotted path, such as `training.lora_r`.

    Text stands as it is, any other value as JSON. A list is one value.
    """
    # The name is no parameter: it tells jobs apart. Nor is the priority: jobs that differ in it alone have one result.
    spec = resolved.spec.model_dump(mode="json", exclude={**NOT_SHOWN, "name": True})
    further = resolved.model_dump(mode="json", include={"model", "engine", "trainer", "embedder"})
    return dict(_leaves(spec | further))


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value by its dotted path; lists, which have an order and no names, are leaves."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
