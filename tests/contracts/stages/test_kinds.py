"""Every kind of artifact has its class, and every class its lifetime."""

from craft.contracts.stages.kinds import FACTS, RetentionClass, Service, StageKind


def test_every_kind_has_a_class() -> None:
    assert set(FACTS) == set(StageKind)
    of_class = {name: {kind.value for kind in StageKind if FACTS[kind].retention is name} for name in RetentionClass}
    assert of_class[RetentionClass.RESULT] == {"package", "report", "evaluate"}
    assert of_class[RetentionClass.MODEL] == {"rehearse", "tune"}
    assert not of_class[RetentionClass.CHECKPOINT] | of_class[RetentionClass.SCRATCH] | of_class[RetentionClass.ORPHAN]


def test_language_models_use_gpu_seconds_and_the_embedder_only_the_lock() -> None:
    assert {service.value for service in Service if service.uses_accelerator} == {"inference", "training"}
    assert {service.value for service in Service if service.locks_device} == {"inference", "training", "scoring"}
