"""The OpenAPI document links an answer to the calls that take its id."""

from pathlib import Path

from tests.services.gateway.rigs.public_rig import open_rig


def test_what_makes_something_links_to_all_that_takes_its_id(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        document = rig.app.openapi()
    links = document["paths"]["/craft/jobs"]["post"]["responses"]["202"]["links"]
    assert links["getJob"] == {"operationId": "getJob", "parameters": {"job_id": "$response.body#/id"}}
    of_job = {
        operation["operationId"]
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "{job_id}" in path
    }
    assert set(links) == of_job


def test_every_id_of_a_path_comes_from_some_answer(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        document = rig.app.openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    linked = {
        name
        for operation in operations
        for response in operation["responses"].values()
        for name in response.get("links", ())
    }
    single = {
        operation["operationId"]
        for operation in operations
        if sum(parameter["in"] == "path" for parameter in operation.get("parameters", ())) == 1
    }
    assert linked == single
