"""Whatever Argo CD makes of a cluster's folder the API server takes, with the real kinds, and knows every field of.

Of the add-ons, whose charts are elsewhere, that is the Applications. What continuous integration fills in, and what a
cluster without Argo CD leaves out, is made up.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom.local.composites import NAMESPACE
from darkroom_contract.cluster import Images
from darkroom_contract.gpus import Gpu
from tests.charts.helm import APPS, CLUSTERS, REPOSITORY, render
from tests.compositions.crds import REFERENCE
from tests.e2e.controlplane import argocd, karpenter, keda
from tests.e2e.controlplane.api import Api, Object, Refused
from tests.e2e.controlplane.cluster import APIS, Cluster, monitoring_crds

FOLDERS = sorted(file.parent for file in CLUSTERS.glob("*/cluster.yaml"))
URL = "https://git.example.com/team/darkroom.git"
#: Where objects of the composites' namespace are tried.
ELSEWHERE = "manifests"
#: An image that Lambda takes, too.
IMAGE = f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom@sha256:{64 * '0'}"
EVERYTHING = {
    "tenants": [{"name": "default"}, {"name": "acme", "dailyQuota": 20_000_000, "rateLimit": 0.5, "keys": ["a", "b"]}],
    "api": {"stage": "live", "memory": 512, "timeout": 20, "concurrency": 5},
    "retention": {"jobs": 90, "outputs": 365, "logs": 7},
    "inputBuckets": ["photos"],
    "models": {
        "efs": {
            "vpcId": "vpc-0123456789abcdef0",
            "subnetIds": ["subnet-0a123456789abcdef"],
            "nodeSecurityGroupId": "sg-01234567",
            "fileSystemId": "fs-0123456789abcdef0",
        }
    },
    "protected": False,
    "subscribers": [
        {"name": "ops", "protocol": "email", "endpoint": "ops@example.com", "filter": {"tenant": ["acme"]}}
    ],
    "gitops": {
        "repository": URL,
        "revision": "release",
        "webhook": {
            "applications": "https://argocd.example.com/api/webhook",
            "runtimes": "https://argocd-sets.example.com/api/webhook",
        },
    },
    "gpuNodes": {
        "pools": [{"gpu": str(gpu), "capacity": "spot", "maxGpus": 3} for gpu in Gpu],
        "raid0": False,
        "imageSnapshotId": "snap-0123456789abcdef0",
    },
}
#: What a cluster may say beside what its file says.
CLUSTERS_SAY: dict[str, dict[str, Any]] = {
    "as it is": {},
    "beside an emulator": {"emulator": {"endpoint": "http://10.0.0.1:5000"}},
    "with everything": EVERYTHING,
}
RUNTIMES_SAY: dict[str, dict[str, Any]] = {
    "sdwebui": {
        "engine": "sdwebui",
        "checkpoint": "sdxl/turbo.safetensors",
        "dynamicCheckpoint": True,
        "args": ["--no-half-vae"],
        "warmup": {"prompt": "a cat", "steps": 1},
    },
    "comfyui": {
        "engine": "comfyui",
        "customNodes": "custom_nodes/video",
        "allowedNodes": ["Load*"],
        "deniedNodes": ["LoadAudio"],
    },
}
#: For either engine.
RUNTIME_SAYS = {
    "accepting": False,
    "defaultForCheckpoint": False,
    "gpu": "p4d",
    "capacity": "on-demand",
    "scaling": {
        "minPods": 1,
        "maxPods": 9,
        "startWithinSeconds": 30,
        "secondsPerPicture": 0.5,
        "cooldownSeconds": 60,
        "pollingSeconds": 1,
    },
    "env": {"CUDA_VISIBLE": "a: b # 'c'"},
    "loras": "sdxl/loras",
    "inputHosts": ["*.example.org"],
    "resources": {"cpu": 3.5, "memory": "12Gi", "outputsGib": 5},
    "image": IMAGE,
    "jobTimeoutSeconds": 60,
    "maxStarts": 1,
}


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Api:
    """An API server that knows the kinds of all add-ons, none of which runs."""
    cluster.api.declare([*argocd.crds(), *keda.crds(), *karpenter.crds(), *monitoring_crds(), *_provider_crds()])
    for namespace in ("argocd", ELSEWHERE):
        cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    return cluster.api


@pytest.fixture(scope="module")
def one_of_each_kind(api: Api) -> list[Object]:
    """An object of each kind that the charts make, every one of which the API server takes."""
    objects = {item["kind"]: item for item in Rendering(CLUSTERS / "example", {}).objects()}
    found = [item for item in objects.values() if REFERENCE or item["kind"] != "ClusterProviderConfig"]
    assert list(refusals(api, found)) == []
    return found


def _provider_crds() -> list[Path]:
    return [Path(REFERENCE, "crds", "aws", "aws.m.upbound.io_clusterproviderconfigs.yaml")] if REFERENCE else []


@pytest.mark.parametrize("says", CLUSTERS_SAY)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_api_server_takes_all_of_a_cluster(api: Api, folder: Path, says: str) -> None:
    objects = list(Rendering(folder, CLUSTERS_SAY[says]).objects())
    assert {item["kind"] for item in objects} > {"Application", "NodePool", "Storage", "Composition", "ScaledObject"}
    assert list(refusals(api, objects)) == []


@pytest.mark.parametrize("engine", RUNTIMES_SAY)
def test_the_api_server_takes_a_runtime_with_every_option(api: Api, engine: str) -> None:
    values = {
        "cluster": {"gpuNodes": {"pools": [{"gpu": RUNTIME_SAYS["gpu"], "maxGpus": 16}]}},
        "images": images({}),
        "name": "everything",
        "runtime": {**RUNTIME_SAYS, **RUNTIMES_SAY[engine]},
    }
    objects = render(APPS / "sd-runtime", CLUSTERS / "example" / "cluster.yaml", values)
    assert list(refusals(api, [placed(item, NAMESPACE) for item in objects])) == []


@pytest.mark.parametrize(
    "path", sorted(APIS.glob("*/example*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_the_api_server_takes_an_example(api: Api, path: Path) -> None:
    assert list(refusals(api, list(yaml.safe_load_all(path.read_text())))) == []


def test_of_every_kind_an_object_with_a_field_that_does_not_exist_is_refused(
    api: Api, one_of_each_kind: list[Object]
) -> None:
    for item in one_of_each_kind:
        wrong = item | {"spec": {**item["spec"], "darkroomUnknown": 1}} if "spec" in item else item | UNKNOWN
        with pytest.raises(Refused, match="darkroomUnknown"):
            api.check(elsewhere(wrong))


UNKNOWN = {"darkroomUnknown": 1}


@pytest.mark.parametrize(
    ("kind", "field", "value", "said"),
    [
        ("Application", "spec.source.helm.valueFiles", "cluster.yaml", "valueFiles"),
        ("ApplicationSet", "spec.syncPolicy.applicationsSync", "always", "applicationsSync"),
        ("AppProject", "spec.clusterResourceWhitelist", [{"group": "apps"}], "kind"),
        ("ClusterAccess", "spec.protected", "never", "protected"),
        ("Composition", "spec.mode", "Resources", "mode"),
        ("CompositeResourceDefinition", "spec.group", "darkroom.example", "name"),
        ("ConfigMap", "data", {"darkroom/json": ""}, "darkroom/json"),
        ("CronJob", "spec.schedule", "now and then", "schedule"),
        ("Deployment", "spec.replicas", -1, "replicas"),
        ("EC2NodeClass", "spec.metadataOptions.httpPutResponseHopLimit", 65, "httpPutResponseHopLimit"),
        ("EC2NodeClass", "spec.amiSelectorTerms", [{"alias": "bottlerocket"}], "alias"),
        ("Function", "spec.package", "darkroom-function", "package"),
        ("ManagedResourceActivationPolicy", "spec.activate", [], "activate"),
        ("ModelRuntime", "spec.engine", "invoke", "engine"),
        ("NodePool", "spec.template.spec.expireAfter", "ever", "expireAfter"),
        ("NodePool", "spec.template.metadata.labels", {"karpenter.sh/nodepool": "mine"}, "labels"),
        ("NodePool", "spec.disruption.budgets", [{"nodes": "0", "reasons": ["Bored"]}], "reasons"),
        ("NetworkPolicy", "spec.policyTypes", ["Both"], "policyTypes"),
        ("PersistentVolume", "spec.accessModes", ["ReadOnly"], "accessModes"),
        ("PersistentVolumeClaim", "spec.resources.requests.storage", "much", "storage|quantities"),
        ("PodMonitor", "spec.podMetricsEndpoints", [{"interval": "often"}], "interval"),
        ("PromptApi", "spec.image", "darkroom/api:latest", "image"),
        ("Provider", "spec.package", "provider-aws-s3", "package"),
        ("ScaledObject", "spec.triggers", None, "triggers"),
        ("Storage", "spec.retention.jobs", 1, "jobs"),
        ("TriggerAuthentication", "spec.podIdentity.provider", "darkroom", "provider"),
        ("ValidatingAdmissionPolicy", "spec.validations", [{"expression": "object.("}], "expression"),
    ],
)
def test_an_object_with_a_wrong_value_is_refused(
    api: Api, one_of_each_kind: list[Object], kind: str, field: str, value: Any, said: str
) -> None:
    item = deepcopy(next(item for item in one_of_each_kind if item["kind"] == kind))
    *path, last = field.split(".")
    part = item
    for name in path:
        part = part[name]
    part[last] = value
    with pytest.raises(Refused, match=said):
        api.check(elsewhere(item))


class Rendering:
    """What Argo CD would render of a cluster's folder, by what the Applications say of where it is."""

    def __init__(self, folder: Path, says: dict[str, Any]) -> None:
        self.folder, self.says = folder, says

    def objects(self) -> Iterator[Object]:
        """Everything, each object in the namespace that its Application says where it says none itself."""
        yield from self._applications()
        for application in self._applications():
            if application["kind"] in ("Application", "ApplicationSet") and application["metadata"]["name"] != "root":
                for spec in self._specs(application):
                    yield from (placed(item, spec["destination"]["namespace"]) for item in self._source(spec))

    def _applications(self) -> list[Object]:
        return render(APPS / "root", self._values(self.folder / "cluster.yaml"), name="root", namespace="argocd")

    def _specs(self, application: Object) -> Iterator[Object]:
        if application["kind"] == "Application":
            yield application["spec"]
            return
        (generator,) = application["spec"]["generators"]
        (directories,) = generator["git"]["directories"]
        for folder in sorted(REPOSITORY.glob(directories["path"])):
            spec = json.dumps(application["spec"]["template"]["spec"])
            spec = spec.replace("{{ .path.path }}", str(folder.relative_to(REPOSITORY)))
            yield json.loads(spec.replace("{{ .path.basename }}", folder.name))

    def _source(self, spec: Object) -> list[Object]:
        source = spec.get("source", {})
        if source.get("repoURL") != self._values(self.folder / "cluster.yaml")["cluster"]["gitops"]["repository"]:
            return []  # an add-on's chart
        place = REPOSITORY / source["path"]
        if "directory" in source:
            patterns = source["directory"]["include"].strip("{}").split(",")
            manifests = [file for pattern in patterns for file in sorted(place.glob(pattern))]
            return [item for file in manifests for item in yaml.safe_load_all(file.read_text())]
        helm = source["helm"]
        values = [self._values(file) for name in helm["valueFiles"] for file in self._files(name.removeprefix("/"))]
        return render(place, *values, helm.get("valuesObject", {}), namespace=spec["destination"]["namespace"])

    def _files(self, name: str) -> list[Path]:
        return sorted(REPOSITORY.glob(name)) if "*" in name else [REPOSITORY / name]

    def _values(self, file: Path) -> dict[str, Any]:
        read = yaml.safe_load(file.read_text()) if file.exists() else {}
        if file.name == "images.yaml":
            return {"images": images(read.get("images", {}))}
        if file.name == "cluster.yaml":
            cluster = {"gitops": {"repository": URL}, **read["cluster"], **self.says}
            return {"cluster": cluster}
        assert isinstance(read, dict)
        return read


def images(built: dict[str, str]) -> dict[str, str]:
    """The images, made up where they are not built."""
    return {name: built.get(name) or IMAGE for name in Images.model_fields}


def placed(item: Object, namespace: str) -> Object:
    """An object as Argo CD applies it: in a namespace, unless it is of the cluster (which the API server knows)."""
    return {**item, "metadata": {"namespace": namespace, **item["metadata"]}}


def refusals(api: Api, objects: list[Object]) -> Iterator[str]:
    """What the API server says of each object that it would not take."""
    for item in objects:
        if not REFERENCE and item["kind"] == "ClusterProviderConfig":
            continue  # its kind comes with a provider
        try:
            api.check(elsewhere(item))
        except Refused as refused:
            yield str(refused)


def elsewhere(item: Object) -> Object:
    """An object of the composites' namespace, in another: there other tests have composites of the same names."""
    metadata = item["metadata"]
    return (
        {**item, "metadata": {**metadata, "namespace": ELSEWHERE}} if metadata.get("namespace") == NAMESPACE else item
    )
