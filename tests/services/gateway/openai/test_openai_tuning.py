"""The real `openai` client uploads files and runs fine-tuning jobs against the real gateway and datasets service."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from tests.services.gateway.rigs.dataset_rig import datasets_service
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import MODEL, Rig, open_rig
from tests.tokens import SERVICE_TOKEN

from craft.contracts.public.accounts import TeamSettings
from craft.errors import TooFewKnown
from craft.infra.settings.datasets import HubSettings
from craft.infra.settings.inference import VllmSettings
from craft_gateway.datasets.client import HttpDatasetsClient

USER = {"role": "user", "content": "a"}
OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"


def chat(question: str, answer: str, *, system: str | None = None, **further: Any) -> dict[str, Any]:
    """Return a line of OpenAI's chat format."""
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages, **further}


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def facts(count: int = 400, *, of: str = "plus") -> bytes:
    return lines(*(chat(f"What is {n} {of} {n}?", str(2 * n)) for n in range(count)))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    options = {"vllm": VllmSettings(), "operator_key": OPERATOR_KEY}
    with (
        open_rig(tmp_path_factory.mktemp("rig"), **options) as rig,
        served(datasets_service(rig.store, HubSettings())) as behind,
    ):
        datasets = HttpDatasetsClient(behind, token=SERVICE_TOKEN)
        rig.client = datasets
        rig.app = rig.new_app()
        for team in ("first", "second"):
            rig.teams.put(team, TeamSettings())
        yield rig
        datasets.close()


@pytest.fixture(scope="module")
def url(rig: Rig) -> Iterator[str]:
    with served(rig.app) as root:
        yield f"{root}/v1"


def key(rig: Rig, team: str, role: str = "editor") -> str:
    headers = {"Authorization": f"Bearer {OPERATOR_KEY}", "Craft-Team": team}
    return str(rig.post("/craft/api-keys", json={"name": "of tests", "role": role}, headers=headers).json()["key"])


@pytest.fixture(scope="module")
def client(rig: Rig, url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key=key(rig, "first"), max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(rig: Rig, url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key=key(rig, "second"), max_retries=0) as client:
        yield client


def upload(client: OpenAI, content: bytes, name: str = "facts.jsonl") -> str:
    return client.files.create(file=(name, io.BytesIO(content)), purpose="fine-tune").id


@pytest.fixture(scope="module")
def training_file(client: OpenAI) -> str:
    return upload(client, facts())


def test_a_file_comes_back_as_it_was_sent(client: OpenAI) -> None:
    sent = lines(
        chat("Wo liegt Köln?", "Am Rhein 🌊", system="Antworte kurz."),
        chat("Who wrote it?", "Ann", answers=["Ann Lee"], category="authors", id="q1"),
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": "c", "weight": 1},
            ]
        },
    )
    file = client.files.create(file=("Köln.jsonl", io.BytesIO(sent)), purpose="fine-tune")
    assert (file.filename, file.purpose, file.status, file.object) == ("Köln.jsonl", "fine-tune", "processed", "file")
    assert file.bytes > 100
    got = [json.loads(line) for line in client.files.content(file.id).text.splitlines()]
    assert [[m["content"] for m in row["messages"]] for row in got] == [
        ["Antworte kurz.\n\nWo liegt Köln?", "Am Rhein 🌊"],
        ["Who wrote it?", "Ann"],
        ["ab", "c"],
    ]
    assert (got[1]["answers"], got[1]["category"], got[1]["id"]) == (["Ann Lee"], "authors", "q1")
    again = client.files.create(file=("other.jsonl", client.files.content(file.id).read()), purpose="fine-tune")
    assert again.id == file.id


def test_a_line_that_was_said_before_is_taken_once_and_blank_lines_are_none(client: OpenAI, rig: Rig) -> None:
    content = b"\xef\xbb\xbf" + lines(chat("Twice?", "Once")) * 2 + b"\n  \n" + lines(chat("Why?", "No"))
    assert len(client.files.content(upload(client, content)).text.splitlines()) == 2


def test_a_finding_that_the_form_accepts_is_no_error(client: OpenAI) -> None:
    file = ("facts.jsonl", lines(chat("Twice?", "Once"), chat("Twice?", "No")))
    with pytest.raises(openai.BadRequestError, match="contradicting_rows"):
        client.files.create(file=file, purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="accept"):
        client.files.create(file=file, purpose="fine-tune", extra_body={"accept": "nonsense"})
    made = client.files.create(file=file, purpose="fine-tune", extra_body={"accept": "contradicting_rows"})
    assert len(client.files.content(made.id).text.splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b"\n\n", "no rows"),
        (b"not json\n", "line 1"),
        (lines([1]), "not a JSON object"),
        (lines(chat("a", "b"), {"messages": []}), "line 2"),
        (lines({"messages": chat("a", "b")["messages"] * 2}), "Earlier turns are not taken"),
        (lines({"messages": chat("a", "b")["messages"][:1]}), "one answer of `assistant`"),
        (lines(chat("a", "")), "messages.1.content"),
        (lines(chat("a", "b", tools=[])), "`tools` cannot be taught"),
        (lines({"prompt": "a", "completion": "b"}), "`completion` cannot be taught"),
        (lines(chat("a", "...")), "answers"),
        (lines(chat("x" * 1_000_001, "b")), "longer than"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}\n', "not valid JSON"),
        (lines({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, {"role": "assistant"}]}), "a text"),
        (lines({"messages": [USER, {"role": "assistant", "content": "b", "weight": 0}]}), "weight"),
    ],
)
def test_a_bad_line_is_told_by_its_number(client: OpenAI, content: bytes, message: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        upload(client, content)
    assert message in caught.value.message
    assert caught.value.type == "invalid_request_error"


def test_files_are_for_fine_tuning_only(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("a.jsonl", facts()), purpose="batch")
    assert caught.value.param == "purpose"
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        client.files.create(
            file=("a.jsonl", facts()), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
        )


def test_files_are_paged_and_deleted(client: OpenAI) -> None:
    uploaded = [upload(client, facts(of=f"times{n}")) for n in range(3)]
    listed = [file.id for file in client.files.list(limit=1)]
    assert listed[:3] == uploaded[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == listed[::-1]
    assert client.files.delete(uploaded[0]).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(uploaded[0])
    assert (caught.value.param, caught.value.code) == ("file_id", "not_found")
    assert uploaded[0] not in [file.id for file in client.files.list()]


def test_a_file_that_a_job_needs_stays_until_the_job_has_ended(client: OpenAI) -> None:
    file = upload(client, facts(of="needed"))
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=file)
    with pytest.raises(openai.ConflictError, match="in use by"):
        client.files.delete(file)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert client.files.delete(file).deleted
    assert client.fine_tuning.jobs.retrieve(job.id).training_file == file


def test_a_job_runs_to_a_model_that_is_served(client: OpenAI, rig: Rig, training_file: str) -> None:
    validation = upload(client, facts(20, of="valid"))
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=training_file,
        validation_file=validation,
        suffix="adder",
        seed=7,
        metadata={"ticket": "ML-412"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}},
        },
    )
    assert (job.status, job.training_file, job.validation_file, job.seed) == ("queued", training_file, validation, 7)
    used = job.hyperparameters
    assert (used.n_epochs, used.batch_size, used.learning_rate_multiplier) == (2, 4, 0.5)
    assert (job.model, job.metadata, job.fine_tuned_model) == (MODEL, {"ticket": "ML-412"}, None)
    own = f"cjob_{job.id.partition('-')[2]}"
    view = rig.reader.job(own)
    assert view.name == "adder"
    assert view.resolved.training.learning_rate == pytest.approx(1e-4)
    assert [further.name for further in view.resolved.evaluation] == ["validation"]
    first = rig.claim(own)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "validating_files"
    rig.complete(first)
    second = rig.claim(own)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "running"
    rig.complete(second)
    rig.finish(own)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.error, bool(done.finished_at)) == ("succeeded", None, True)
    assert done.trained_tokens is not None
    assert done.fine_tuned_model in [model.id for model in client.models.list()]


def test_who_withdrew_a_model_is_not_overruled(client: OpenAI, rig: Rig, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training_file, seed=11)
    own = f"cjob_{job.id.partition('-')[2]}"
    rig.finish(own)
    assert client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    headers = {"Authorization": f"Bearer {client.api_key}"}
    assert rig.request("DELETE", f"/craft/jobs/{own}/deploy", headers=headers).status_code == 204
    assert client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model is None


def test_a_viewer_who_looks_deploys_nothing(client: OpenAI, rig: Rig, url: str, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training_file, seed=12)
    rig.finish(f"cjob_{job.id.partition('-')[2]}")
    with OpenAI(base_url=url, api_key=key(rig, "first", "viewer"), max_retries=0) as viewer:
        assert viewer.fine_tuning.jobs.retrieve(job.id).fine_tuned_model is None
        with pytest.raises(openai.PermissionDeniedError):
            viewer.fine_tuning.jobs.cancel(job.id)


def test_where_no_adapter_is_served_the_last_event_says_how_to_have_it(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        job_id = rig.submit(labels={"craft.api": "openai"})
        rig.finish(job_id)
        with served(rig.app) as url, OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            job = client.fine_tuning.jobs.retrieve(job_id.replace("cjob_", "ftjob-"))
            assert (job.status, job.fine_tuned_model) == ("succeeded", None)
            last = client.fine_tuning.jobs.list_events(job.id).data[0].message
    assert f"/craft/jobs/{job_id}/adapter" in last
    assert f"POST /craft/jobs/{job_id}/deploy" in last


def test_a_failed_job_says_why(client: OpenAI, rig: Rig, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training_file, seed=13)
    own = f"cjob_{job.id.partition('-')[2]}"
    stage = rig.claim(own)
    rig.progress(stage, 1, 2)
    rig.fail(stage, TooFewKnown("It knows too little.", hint="Ask easier questions."))
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("too_few_known", "It knows too little.")
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
    assert (events[0].level, "It knows too little" in events[0].message) == ("error", True)
    assert events[-1].message == "The job was created."
    assert len({event.id for event in events}) == len(events) > 3
    assert any(event.type == "metrics" for event in events)
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []


def test_a_job_is_paused_and_resumed(client: OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training_file, seed=14)
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"  # type: ignore[comparison-overlap] # see the ADR
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    client.fine_tuning.jobs.cancel(job.id)


def test_jobs_are_paged_by_metadata_and_only_those_made_here_are_listed(
    client: OpenAI, rig: Rig, training_file: str
) -> None:
    made = [
        client.fine_tuning.jobs.create(model=MODEL, training_file=training_file, seed=n, metadata={"page": "yes"}).id
        for n in (21, 22)
    ]
    body = {
        "base_model": {"id": MODEL},
        "dataset": {"id": training_file.replace("file-", "dset_")},
        "labels": {"page": "yes"},
    }
    headers = {"Authorization": f"Bearer {client.api_key}"}
    own = rig.post("/craft/jobs", json=body, headers=headers)
    assert own.status_code == 202
    assert [job.id for job in client.fine_tuning.jobs.list(limit=1, metadata={"page": "yes"})] == made[::-1]
    assert client.fine_tuning.jobs.retrieve(own.json()["id"].replace("cjob_", "ftjob-")).status == "queued"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"training_file": "file-abc"}, "training_file"),
        ({"training_file": "file-01jgywz3x4v5q6r7s8t9vawbxc"}, "training_file"),
        ({"validation_file": "file-01jgywz3x4v5q6r7s8t9vawbxc"}, "validation_file"),
        ({"model": "gpt-4o-mini"}, "model"),
        ({"model": "../etc"}, "model"),
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.type"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": "3"}}, "hyperparameters.batch_size"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"metadata": {"craft.api": "x"}}, "metadata"),
        ({"extra_body": {"colour": "red"}}, "colour"),
        ({"extra_body": {"craft": {"base_model": {}}}}, "craft"),
        ({"extra_body": {"craft": {"selection": {"tau": 2}}}}, "craft.selection.tau"),
        ({"extra_body": {"craft": {"training": {"epochs": 1}}}, "hyperparameters": {"n_epochs": 2}}, "n_epochs"),
        (
            {
                "hyperparameters": {"n_epochs": 1},
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
            },
            "hyperparameters",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(
    client: OpenAI, training_file: str, changes: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(**{"model": MODEL, "training_file": training_file, **changes})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_settings_that_openai_does_not_have_go_into_craft(client: OpenAI, rig: Rig, training_file: str) -> None:
    further = {"craft": {"strategies": ["cor-rait"], "training": {"lora_r": 8}, "selection": {"tau": 0.25}}}
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=training_file, hyperparameters={"n_epochs": "auto"}, extra_body=further
    )
    spec = rig.reader.job(job.id.replace("ftjob-", "cjob_")).resolved
    assert (spec.strategies, spec.training.lora_r, spec.training.epochs, spec.selection.tau) == (
        ["cor-rait"],
        8,
        3,
        0.25,
    )


def test_another_teams_files_and_jobs_are_not_found(client: OpenAI, stranger: OpenAI, training_file: str) -> None:
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=training_file, seed=31).id
    jobs, files = stranger.fine_tuning.jobs, stranger.files
    for call in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError):
            call(job)
    for look in (files.retrieve, files.delete, files.content):
        with pytest.raises(openai.NotFoundError):
            look(training_file)
    with pytest.raises(openai.BadRequestError) as caught:
        jobs.create(model=MODEL, training_file=training_file)
    assert caught.value.param == "training_file"
    assert not [*jobs.list()]
    assert not [*files.list()]
    assert client.fine_tuning.jobs.retrieve(job).status == "queued"


def test_the_same_idempotency_key_makes_one_job(client: OpenAI, training_file: str) -> None:
    headers = {"Idempotency-Key": "once"}
    made = {
        client.fine_tuning.jobs.create(model=MODEL, training_file=training_file, seed=41, extra_headers=headers).id
        for _ in range(2)
    }
    assert len(made) == 1


def test_without_a_form_there_is_no_file(rig: Rig, url: str) -> None:
    answer = httpx.post(f"{url}/files", json={}, headers={"Authorization": f"Bearer {key(rig, 'first')}"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
