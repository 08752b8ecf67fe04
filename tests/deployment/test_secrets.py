"""k8s/secrets.sh: fresh random values that fit together."""

import re
import subprocess

import kubernetes_validate
import yaml
from tests.deployment.files import ROOT, secret


def printed() -> dict[str, str]:
    done = subprocess.run(["sh", str(ROOT / "k8s/secrets.sh")], capture_output=True, text=True, check=True)
    document = yaml.safe_load(done.stdout)
    kubernetes_validate.validate(document, "1.37", strict=True)
    data: dict[str, str] = document["stringData"]
    return data


def test_every_value_is_new_each_time() -> None:
    first, second = printed(), printed()
    assert set(first) == set(second)
    assert not set(first.values()) & set(second.values())


def test_passwords_are_long_and_fit_into_urls() -> None:
    for name in (
        "postgres-password",
        "worker-token",
        "service-token",
        "metrics-token",
        "model-server-token",
        "gateway-operator-key",
        "webhooks-key",
    ):
        assert re.fullmatch(r"[0-9a-f]{48}", secret()[name])


def test_the_parts_agree() -> None:
    data = secret()
    assert data["database-url"] == f"postgresql://craft:{data['postgres-password']}@postgres:5432/craft"
    password = re.fullmatch(r"redis://craft:([0-9a-f]{48})@valkey:6379/0", data["broker-url"])
    assert password is not None
    assert f"user craft on >{password[1]} " in data["users.acl"]


def test_no_secret_is_committed() -> None:
    for path in (ROOT / "k8s").rglob("*.yaml"):
        assert not re.search(r"^kind: Secret$", path.read_text(), re.MULTILINE), path
