"""The rendered overlays: valid, complete, restricted."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.deployment.files import GPU_OVERLAYS, ROOT, WORKLOADS, Document, manifests, of_kind, rendered, secret

VERSIONS = ("1.30", "1.34", "1.37")
GPU = "nvidia.com/gpu"


def pods(documents: tuple[Document, ...]) -> dict[str, Document]:
    return {d["metadata"]["name"]: d["spec"]["template"] for d in of_kind(documents, *WORKLOADS)}


def containers(documents: tuple[Document, ...]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}/{container['name']}", container)
        for name, pod in pods(documents).items()
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_in_strict_mode(manifest_set: tuple[Document, ...], version: str) -> None:
    for document in manifest_set:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(
    ("path", "document"),
    list(manifests()),
    ids=[f"{p.relative_to(ROOT / 'k8s')}:{d['kind']}/{d['metadata']['name']}" for p, d in manifests()],
)
def test_every_file_is_valid_before_it_is_rendered(path: Path, document: Document) -> None:
    kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


def test_strict_validation_refuses_a_misspelt_field() -> None:
    broken = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "craft", "lables": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_file_belongs_to_a_kustomization() -> None:
    for path in (ROOT / "k8s").rglob("kustomization.yaml"):
        text = path.read_text()
        loaded = yaml.safe_load(text)
        for file in path.parent.glob("*.yaml"):
            assert file == path or file.name in text, f"{file} is not used"
        for resource in [*loaded.get("resources", ()), *loaded.get("components", ())]:
            assert (path.parent / resource).exists()


def test_everything_is_in_the_namespace(manifest_set: tuple[Document, ...]) -> None:
    for document in manifest_set:
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "craft"


def test_the_namespace_enforces_the_restricted_standard(manifest_set: tuple[Document, ...]) -> None:
    (namespace,) = of_kind(manifest_set, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_pods_are_restricted(manifest_set: tuple[Document, ...]) -> None:
    for name, pod in pods(manifest_set).items():
        spec = pod["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
        kinds = {next(key for key in volume if key != "name") for volume in spec["volumes"]}
        assert kinds <= {"persistentVolumeClaim", "emptyDir", "configMap", "secret"}


def test_containers_are_restricted(manifest_set: tuple[Document, ...]) -> None:
    for name, container in containers(manifest_set):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context.get("runAsUser", 1) > 0
        assert "privileged" not in context


def test_containers_say_what_they_need(manifest_set: tuple[Document, ...]) -> None:
    for name, container in containers(manifest_set):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"]
        assert re.fullmatch(r"[a-z0-9./-]+:[a-z0-9.-]*\d[a-z0-9.-]*", container["image"])


def test_scratch_space_is_limited(manifest_set: tuple[Document, ...]) -> None:
    for name, pod in pods(manifest_set).items():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert all("sizeLimit" in volume["emptyDir"] for volume in volumes.values() if "emptyDir" in volume), name
        for container in pod["spec"]["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert "emptyDir" in volumes[mounts["/tmp"]], name  # noqa: S108 - a mount point


def test_whatever_listens_is_probed(manifest_set: tuple[Document, ...]) -> None:
    for name, container in containers(manifest_set):
        assert bool(container.get("ports")) == ("readinessProbe" in container), name
        if "readinessProbe" in container:
            assert "livenessProbe" in container
            if "httpGet" in container["readinessProbe"]:
                assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
            if "httpGet" in container["livenessProbe"]:
                assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_everything_referred_to_exists(manifest_set: tuple[Document, ...]) -> None:
    names = {(document["kind"], document["metadata"]["name"]) for document in manifest_set}
    for name, pod in pods(manifest_set).items():
        for volume in pod["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names, name
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            if "secret" in volume:
                assert volume["secret"]["secretName"] == "craft-secrets"
                assert {item["key"] for item in volume["secret"]["items"]} <= set(secret())
    for name, container in containers(manifest_set):
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            assert reference is None or (reference["name"] == "craft-secrets" and reference["key"] in secret()), name


def test_volumes_that_are_mounted_are_declared(manifest_set: tuple[Document, ...]) -> None:
    for workload in of_kind(manifest_set, *WORKLOADS):
        spec = workload["spec"]["template"]["spec"]
        declared = {volume["name"] for volume in spec["volumes"]}
        declared |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == declared, workload["metadata"]["name"]


def test_services_and_budgets_select_pods_that_exist(manifest_set: tuple[Document, ...]) -> None:
    for service in of_kind(manifest_set, "Service"):
        chosen = [pod for pod in pods(manifest_set).values() if selects(service["spec"]["selector"], pod)]
        assert len(chosen) == 1, service["metadata"]["name"]
        offered = {p["name"] for c in chosen[0]["spec"]["containers"] for p in c.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= offered
    for budget in of_kind(manifest_set, "PodDisruptionBudget"):
        chosen = [p for p in pods(manifest_set).values() if selects(budget["spec"]["selector"]["matchLabels"], p)]
        assert len(chosen) == 1
        assert budget["spec"]["maxUnavailable"] == 1, "a single replica must not block the draining of its node"


def test_models_can_be_changed_by_the_gateway_and_the_download_only(manifest_set: tuple[Document, ...]) -> None:
    for name, container in containers(manifest_set):
        for mount in container["volumeMounts"]:
            if mount["name"] == "models":
                writer = name in {"gateway/gateway", "models/models"}
                assert mount.get("readOnly", False) is not writer, name


def selects(labels: dict[str, str], pod: Document) -> bool:
    own: dict[str, str] = pod["metadata"]["labels"]
    return labels.items() <= own.items()


def test_the_local_overlay_is_small_and_needs_no_gpu() -> None:
    for workload in of_kind(rendered("local"), "Deployment", "StatefulSet"):
        assert workload["spec"]["replicas"] == 1
    for _, container in containers(rendered("local")):
        assert GPU not in container["resources"]["limits"]
    for claim in of_kind(rendered("local"), "PersistentVolumeClaim"):
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.parametrize("overlay", GPU_OVERLAYS)
def test_vllm_and_training_ask_for_a_gpu_and_nobody_else_does(overlay: str) -> None:
    documents = rendered(overlay)
    for name, container in containers(documents):
        wants = name in {"model-server/model-server", "training-worker/worker"}
        assert container["resources"]["requests"].get(GPU) == ("1" if wants else None), name
        assert container["resources"]["limits"].get(GPU) == ("1" if wants else None), name
        spec = pods(documents)[name.split("/")[0]]["spec"]
        if wants:
            assert spec["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
            assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
            shared = next(volume for volume in spec["volumes"] if volume["name"] == "shared-memory")
            assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
            assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]  # noqa: S108 - the fixed name


@pytest.mark.parametrize("overlay", GPU_OVERLAYS)
def test_a_gpu_is_free_before_the_next_pod_wants_it(overlay: str) -> None:
    for workload in of_kind(rendered(overlay), "Deployment"):
        wants = workload["metadata"]["name"] in {"model-server", "training-worker"}
        assert (workload["spec"].get("strategy") == {"type": "Recreate"}) == wants, workload["metadata"]["name"]


def test_a_teams_volumes_are_shared_between_nodes() -> None:
    for claim in of_kind(rendered("gpu"), "PersistentVolumeClaim"):
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_who_shares_a_gpu_is_on_one_node() -> None:
    for claim in of_kind(rendered("one-gpu"), "PersistentVolumeClaim"):
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"], claim["metadata"]["name"]


def test_the_readme_explains_how_a_gpu_is_offered_twice() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "k8s/README.md").read_text(), re.DOTALL)
    (resource,) = yaml.safe_load(block)["sharing"]["timeSlicing"]["resources"]
    asking = [c for _, c in containers(rendered("one-gpu")) if GPU in c["resources"]["limits"]]
    assert resource == {"name": GPU, "replicas": len(asking)}
