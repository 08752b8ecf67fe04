"""A worker computes a stage with the engine that was agreed, or not at all."""

from functools import partial
from pathlib import Path

import pytest

from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.errors import DeploymentChanged
from craft.infra.device.deployment import check_engine
from craft_inference.engine import Engine
from craft_inference.engine_holder import EngineHolder
from craft_inference.fake_engine import FakeEngine

MODEL = ModelRef(id="tiny", revision="main", digest="d" * 64)
OWN = EngineRef(versions="transformers 5.0, torch 2.0")


@pytest.mark.parametrize("change", [{"versions": "transformers 4.0, torch 2.0"}, {"device": "cuda"}])
def test_an_engine_that_the_worker_cannot_make_as_agreed_is_refused_before_a_model_is_loaded(
    change: dict[str, str],
) -> None:
    loads: list[EngineRef] = []

    def load(_: ModelRef, __: Path, engine: EngineRef) -> Engine:
        loads.append(engine)
        return FakeEngine()

    engines = EngineHolder(load, lambda ref: Path(ref.id), name="transformers", check=partial(check_engine, own=OWN))
    with pytest.raises(DeploymentChanged), engines.borrow(MODEL, OWN.model_copy(update=change)):
        pass
    with engines.borrow(MODEL, OWN):
        pass
    assert loads == [OWN]
