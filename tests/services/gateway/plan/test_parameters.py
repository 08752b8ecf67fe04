"""A job's parameters by dotted path, as publishing and the comparison show them."""

from tests.services.gateway.rigs.world import resolved, sha

from craft_gateway.plan.parameters import resolved_parameters


def test_every_parameter_that_decides_the_result_has_a_path() -> None:
    parameters = resolved_parameters(resolved(training={"lora_r": 8}, prompts={"extra_refusals": ["No idea."]}))
    shown = ("training.lora_r", "strategies", "base_model.id", "model.digest", "embedder", "prompts.extra_refusals")
    assert [parameters[path] for path in shown] == [
        "8", '["craft"]', "some/model", sha("model"), "some/embedder", '["No idea."]',
    ]  # fmt: skip


def test_what_changes_no_result_is_no_parameter() -> None:
    assert resolved_parameters(resolved(name="a", labels={"b": "c"}, priority=9)) == resolved_parameters(resolved())
