"""What Argo CD keeps in a cluster, and what it may do there: the chart ``apps/root``."""

import re
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import jsonschema
import pytest
import yaml

from darkroom_contract.cluster import Location, Models
from darkroom_contract.gitops import GitOps
from tests.charts.clusters import FILE_SYSTEM
from tests.charts.helm import APPS, CLUSTERS, REPOSITORY, RenderFailed, one, render
from tests.compositions.crds import REFERENCE, strict
from tests.e2e.controlplane.binaries import source

CHART = APPS / "root"
LOCATION = {"name": "studio", "account": "111122223333", "region": "eu-west-1", "eksName": "studio-eks"}
GITOPS = {"repository": "https://git.example.com/team/darkroom.git"}
IMAGE = "registry.example.com/darkroom@sha256:" + 64 * "0"
IMAGES = dict.fromkeys(("agent", "api", "function", "sdwebui", "comfyui"), IMAGE)
EMULATOR = {"emulator": {"endpoint": "http://10.0.0.1:5000"}}

WEBHOOK = {
    "webhook": {
        "applications": "https://argocd.example.com/api/webhook",
        "runtimes": "https://argocd-sets.example.com/api/webhook",
    }
}

EFS = {"models": {"efs": FILE_SYSTEM}}

#: The add-ons, each an Application.
ADD_ONS = {
    "argo-cd",
    "crossplane",
    "dcgm-exporter",
    "karpenter",
    "karpenter-crds",
    "keda",
    "kube-prometheus-stack",
    "mountpoint-s3-csi-driver",
}
#: The version of an add-on's chart, and that of the values which it is compared with: those in ``charts/`` of
#: DARKROOM_REFERENCE, and Karpenter's from its source. Two are not the same, on purpose: of the newer chart of Argo CD
#: no values are at hand, and Crossplane's are of its source before 2.4.0. A new version wants its line here.
COMPARED = {
    "argo-cd": ("10.10.1", "10.1.1"),
    "crossplane": ("2.4.0", "2.4, 2d040d2"),
    "karpenter": ("1.14.0", "1.14.0"),
    "keda": ("2.20.2", "2.20.2"),
    "mountpoint-s3-csi-driver": ("2.7.0", "2.7.0"),
}
#: The add-ons that are told something, and of whose values nothing is known.
UNKNOWN = {"aws-efs-csi-driver", "dcgm-exporter", "kube-prometheus-stack"}
OWN = {"crossplane-apis", "crossplane-packages", "gpu-nodes", "platform", "root"}
#: Values under which the chart takes any key.
FREE = {"argo-cd": {"configs.cm", "configs.params"}}


def root(gitops: dict[str, Any] | None = None, **cluster: Any) -> list[Any]:
    return _rendered(yaml.safe_dump({**LOCATION, "gitops": {**GITOPS, **(gitops or {})}, **cluster}))


@cache
def _rendered(cluster: str) -> list[Any]:
    return render(CHART, {"cluster": yaml.safe_load(cluster)}, name="root")


def applications(**cluster: Any) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in root(**cluster) if item["kind"] == "Application"}


def add_ons() -> dict[str, Any]:
    """Those of a cluster whose models are in a bucket, and of one whose models are on EFS."""
    return {name: item for name, item in {**applications(), **applications(**EFS)}.items() if name not in OWN}


def runtimes(**gitops: Any) -> Any:
    return one(root(gitops), "ApplicationSet", "runtimes")["spec"]


def sources(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return spec.get("sources") or [spec["source"]]


def values(name: str) -> Any:
    """What an add-on's chart is told."""
    (chart, *_) = sources(add_ons()[name]["spec"])
    helm = chart.get("helm", {})
    files = [REPOSITORY / file.removeprefix("$values/") for file in helm.get("valueFiles", ())]
    (told,) = [yaml.safe_load(file.read_text()) for file in files] or [helm.get("valuesObject", {})]
    return told


def sync_options(item: Any) -> set[str]:
    return set(item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-options", "").split(","))


def kinds(objects: list[Any]) -> set[tuple[str, str]]:
    return {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item in objects}


@cache
def _validators() -> dict[str, Any]:
    """Argo CD's kinds, with the fields that they have and no others."""
    crds = [yaml.safe_load(file.read_text()) for file in source("argocd").glob("manifests/crds/*-crd.yaml")]
    return {
        crd["spec"]["names"]["kind"]: jsonschema.Draft202012Validator(
            strict(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        )
        for crd in crds
    }


def runtime(**extra: Any) -> list[Any]:
    given = {"cluster": LOCATION, "images": IMAGES, "name": "sdxl", "runtime": {"engine": "sdwebui"}, **extra}
    return render(APPS / "sd-runtime", given, name="runtime-sdxl")


# What is rendered


@pytest.mark.parametrize("given", [{}, EFS, EMULATOR, {"gitops": WEBHOOK}], ids=["aws", "efs", "emulator", "webhook"])
def test_argo_cd_accepts_all_of_it(given: dict[str, Any]) -> None:
    for item in root(**given):
        _validators()[item["kind"]].validate(item)


def test_a_cluster_has_the_add_ons_and_its_own_charts() -> None:
    assert set(applications()) == {*ADD_ONS, *OWN}


def test_a_cluster_has_the_driver_of_its_models_volume_and_not_the_other() -> None:
    assert set(applications()) ^ set(applications(**EFS)) == {"mountpoint-s3-csi-driver", "aws-efs-csi-driver"}
    assert "aws-efs-csi-driver" in applications(**EFS)


@pytest.mark.parametrize("models", [{}, EFS], ids=["s3", "efs"])
def test_beside_an_emulator_there_are_no_add_ons(models: dict[str, Any]) -> None:
    rendered = root(**EMULATOR, **models)
    assert set(applications(**EMULATOR, **models)) == OWN - {"crossplane-packages"}
    assert {one(rendered, "ApplicationSet")["metadata"]["name"]} == {"runtimes"}
    assert {item["metadata"]["name"] for item in rendered if item["kind"] == "AppProject"} == {"platform", "runtimes"}


def test_a_cluster_without_a_repository_is_refused() -> None:
    with pytest.raises(RenderFailed, match="missing property 'repository'"):
        render(CHART, {"cluster": LOCATION})


@pytest.mark.parametrize("field", ["revision", "webhook"])
def test_what_is_absent_is_as_the_contract_says(field: str) -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())["cluster"]
    assert defaults["gitops"][field] == GitOps.model_fields[field].default
    assert defaults["models"] == Models().model_dump()


def test_every_add_on_has_an_exact_version() -> None:
    for name, item in add_ons().items():
        (chart, *_) = sources(item["spec"])
        assert re.fullmatch(r"\d+\.\d+\.\d+|sha256:[0-9a-f]{64}", chart["targetRevision"]), name


# The add-ons' values


def known_values(name: str) -> Any:
    """A chart's own values."""
    if name == "karpenter":
        return yaml.safe_load((source("karpenter-provider-aws") / "charts/karpenter/values.yaml").read_text())
    if not REFERENCE:
        pytest.skip("DARKROOM_REFERENCE is not set: no charts' values to compare with")
    file = {"mountpoint-s3-csi-driver": "aws-mountpoint-s3-csi-driver"}.get(name, name)
    return yaml.safe_load(Path(REFERENCE, "charts", f"{file}.values.yaml").read_text())


@pytest.mark.parametrize("name", COMPARED)
def test_every_value_of_an_add_on_is_one_that_its_chart_has(name: str) -> None:
    assert not list(unknown(values(name), known_values(name), FREE.get(name, set())))


def test_values_are_compared_with_those_of_the_version_that_is_installed_or_it_is_said() -> None:
    installed = {name: sources(item["spec"])[0]["targetRevision"] for name, item in add_ons().items()}
    assert {name: installed[name] for name in COMPARED} == {name: version for name, (version, _) in COMPARED.items()}
    assert {name for name, (version, compared) in COMPARED.items() if version != compared} == {"argo-cd", "crossplane"}


def test_the_add_ons_whose_values_are_compared_with_nothing_are_named() -> None:
    assert {name for name in add_ons() if values(name)} - COMPARED.keys() == UNKNOWN
    said = (REPOSITORY / "docs/tests.md").read_text()
    assert all(f"`{name}`" in said for name in UNKNOWN)


def unknown(given: Any, known: Any, free: set[str], path: str = "") -> Any:
    """The paths of the values that a chart does not have. What is empty there takes anything, and lists are whole."""
    for key, value in given.items():
        place = f"{path}.{key}".lstrip(".")
        if key not in known:
            yield place
        elif isinstance(value, dict) and known[key] and place not in free:
            yield from unknown(value, known[key], free, place)


def test_a_value_that_a_chart_does_not_have_is_found() -> None:
    known = {"operator": {"replicas": 1, "labels": {}}}
    given = {"operator": {"replica": 2, "labels": {"any": "thing"}}, "webhooks": True}
    assert list(unknown(given, known, set())) == ["operator.replica", "webhooks"]


def test_karpenter_is_told_its_cluster_region_and_queue() -> None:
    told = values("karpenter")
    names = Location.model_validate(LOCATION).names
    assert told["settings"] == {"clusterName": "studio-eks", "interruptionQueue": names.interruption_queue}
    assert told["controller"]["env"] == [{"name": "AWS_REGION", "value": "eu-west-1"}]


def test_the_driver_of_the_models_volume_runs_on_gpu_nodes_that_wait_for_it() -> None:
    assert values("aws-efs-csi-driver")["node"]["tolerations"] == [{"operator": "Exists"}]
    assert known_values("mountpoint-s3-csi-driver")["node"]["tolerateAllTaints"]
    assert "node" not in values("mountpoint-s3-csi-driver")


def test_keda_watches_the_namespace_of_the_runtimes() -> None:
    assert values("keda")["watchNamespace"] == runtimes()["template"]["spec"]["destination"]["namespace"]


def test_crossplanes_core_is_installed_with_the_values_that_bootstrap_uses() -> None:
    assert values("crossplane") == yaml.safe_load((REPOSITORY / "crossplane/core/values.yaml").read_text())


def test_argo_cd_is_reachable_from_within_the_cluster_alone() -> None:
    told = values("argo-cd")
    assert not {"server", "ingress"} & set(told)
    assert "server.insecure" not in told["configs"]["params"]


def test_argo_cd_looks_often_and_without_jitter_unless_it_is_told() -> None:
    settings = values("argo-cd")["configs"]["cm"]
    assert (
        settings["timeout.reconciliation"] == f"{runtimes()['generators'][0]['git']['requeueAfterSeconds']}s" == "20s"
    )
    assert settings["timeout.reconciliation.jitter"] == "0s"
    told = applications(gitops=WEBHOOK)["argo-cd"]["spec"]["source"]["helm"]["valuesObject"]
    assert told["configs"]["cm"]["timeout.reconciliation"] == "180s"
    assert runtimes(**WEBHOOK)["generators"][0]["git"]["requeueAfterSeconds"] == 180


def test_argo_cd_does_not_look_at_the_keys_of_the_api() -> None:
    excluded = yaml.safe_load(values("argo-cd")["configs"]["cm"]["resource.exclusions"])
    assert {"apiGroups": ["apigateway.aws.m.upbound.io"], "kinds": ["UsagePlanKey"]} in excluded


def test_no_secret_is_in_it() -> None:
    text = yaml.safe_dump([values(name) for name in add_ons()])
    assert not re.search(r"(?i)^\s*\S*(password|token|secretkey)\S*: \S", text, re.MULTILINE)


# What an Application may do


def test_an_application_stays_within_its_project() -> None:
    rendered = root()
    for name, item in {**applications(), **add_ons()}.items():
        project = one(rendered, "AppProject", item["spec"]["project"])["spec"]
        assert {entry["repoURL"] for entry in sources(item["spec"])} <= set(project["sourceRepos"]), name
        assert item["spec"]["destination"] in project["destinations"], name


#: What becomes of the chart's objects: Argo CD shows no kind that is not allowed.
SHOWN = {("", "Pod"), ("apps", "ReplicaSet"), ("autoscaling", "HorizontalPodAutoscaler")}


def test_runtimes_may_have_the_kinds_of_their_chart_in_one_namespace_and_nothing_else() -> None:
    project = one(root(), "AppProject", "runtimes")["spec"]
    allowed = {(entry["group"], entry["kind"]) for entry in project["namespaceResourceWhitelist"]}
    comfyui = {"engine": "comfyui", "checkpoint": "flux.safetensors", "capacity": "spot"}
    assert allowed == kinds(runtime()) | kinds(runtime(runtime=comfyui)) | SHOWN
    assert project["clusterResourceWhitelist"] == []
    assert project["sourceRepos"] == [GITOPS["repository"]]
    assert project["destinations"] == [{"name": "in-cluster", "namespace": "darkroom"}]
    assert runtimes()["template"]["spec"]["destination"] in project["destinations"]


#: Any other kind that the charts make is one of clusters.
NAMESPACED = {
    ("", "ConfigMap"),
    ("", "PersistentVolumeClaim"),
    ("", "ServiceAccount"),
    ("batch", "CronJob"),
    ("darkroom.dev", "ClusterAccess"),
    ("darkroom.dev", "PromptApi"),
    ("darkroom.dev", "Storage"),
    ("keda.sh", "TriggerAuthentication"),
    ("monitoring.coreos.com", "PodMonitor"),
    ("networking.k8s.io", "NetworkPolicy"),
}


@pytest.mark.parametrize("given", [{}, EMULATOR], ids=["aws", "emulator"])
def test_the_platform_may_have_the_kinds_of_clusters_that_its_charts_make(given: dict[str, Any]) -> None:
    project = one(root(**given), "AppProject", "platform")["spec"]
    allowed = {(entry["group"], entry["kind"]) for entry in project["clusterResourceWhitelist"]}
    cluster = {"cluster": {**LOCATION, **given}, "images": IMAGES}
    made = kinds([*render(APPS / "platform", cluster), *render(APPS / "gpu-nodes", cluster)])
    assert made - NAMESPACED <= allowed


# A folder, an Application


def test_each_folder_of_the_cluster_is_an_application_with_the_files_of_cluster_and_folder() -> None:
    spec = runtimes()
    assert spec["generators"][0]["git"]["directories"] == [{"path": "clusters/studio/runtimes/*"}]
    assert spec["goTemplateOptions"] == ["missingkey=error"]
    assert spec["template"]["metadata"]["name"] == "runtime-{{ .path.basenameNormalized }}"
    assert spec["template"]["spec"]["source"]["helm"] == {
        "valueFiles": [
            "/{{ .path.path }}/workflows/*.yaml",
            "/{{ .path.path }}/runtime.yaml",
            "/apps/sd-runtime/cluster-defaults.yaml",
            "/clusters/studio/cluster.yaml",
            "/clusters/studio/images.yaml",
        ],
        "ignoreMissingValueFiles": True,
        "valuesObject": {"name": "{{ .path.basename }}"},
    }


FOLDER = "clusters/studio/runtimes/sdxl"
OTHERS = "elsewhere.example.com/darkroom@sha256:" + 64 * "1"
#: What a runtime's folder might say of its cluster: all that the chart asks of it, and otherwise than all else here.
SAID_OF_THE_CLUSTER: dict[str, dict[str, Any]] = {
    "cluster": {
        "name": "other",
        "account": "999999999999",
        "region": "us-east-1",
        "eksName": "other-eks",
        "tenants": [{"name": "acme"}],
        "inputBuckets": ["others-photos"],
        "alarms": {"topicArn": "arn:aws:sns:us-east-1:999999999999:others", "longestWaitMinutes": 7},
        "gpuNodes": {"pools": [{"gpu": "p5"}]},
        "emulator": {"endpoint": "http://203.0.113.1:5000"},
    },
    "images": dict.fromkeys(IMAGES, OTHERS),
}


def pushed(images: dict[str, str] = IMAGES, folder: dict[str, Any] | None = None, **cluster: Any) -> list[Any]:
    """What Argo CD renders of the folder ``sdxl`` with these files, in the order of the ApplicationSet."""
    files: dict[str, dict[str, Any]] = {
        "clusters/studio/cluster.yaml": {"cluster": {**LOCATION, **cluster}},
        "clusters/studio/images.yaml": {"images": images},
        **{f"{FOLDER}/{name}": content for name, content in (folder or {}).items()},
    }
    given: list[Path | dict[str, Any]] = []
    for file in runtimes()["template"]["spec"]["source"]["helm"]["valueFiles"]:
        name = file.removeprefix("/").replace("{{ .path.path }}", FOLDER)
        given += [files[path] for path in sorted(files) if PurePath(path).match(name)]
        given += [REPOSITORY / name] if (REPOSITORY / name).exists() else []
    return render(APPS / "sd-runtime", *given, {"name": "sdxl"})


@pytest.mark.parametrize("file", ["runtime.yaml", "workflows/a.yaml"])
@pytest.mark.parametrize(
    "cluster",
    [
        {},
        {"alarms": {"topicArn": "arn:aws:sns:eu-west-1:111122223333:ops"}},
        {"inputBuckets": ["photos"], "tenants": [{"name": "mine"}], "gpuNodes": {"raid0": False}, **EMULATOR},
    ],
    ids=["as short as may be", "alarms", "more"],
)
def test_a_runtime_s_files_say_nothing_of_the_cluster(cluster: dict[str, Any], file: str) -> None:
    described: dict[str, Any] = {"runtime.yaml": {"runtime": {"engine": "sdwebui"}}}
    more = {**described, file: {**described.get(file, {}), **SAID_OF_THE_CLUSTER}}
    assert pushed(folder=more, **cluster) == pushed(folder=described, **cluster)


def test_a_runtime_s_files_are_no_images_of_the_cluster_s() -> None:
    more = {"runtime.yaml": {"runtime": {"engine": "sdwebui"}, **SAID_OF_THE_CLUSTER}}
    with pytest.raises(RenderFailed, match=r"images\.agent is empty"):
        pushed({"sdwebui": IMAGE}, more)


def test_a_workflow_does_not_change_what_the_description_says() -> None:
    described = {"runtime.yaml": {"runtime": {"engine": "comfyui", "maxStarts": 1}}}
    more = {**described, "workflows/a.yaml": {"runtime": {"engine": "sdwebui", "maxStarts": 9}}}
    assert pushed(folder=more) == pushed(folder=described)


def test_all_that_a_runtime_s_chart_asks_of_the_cluster_is_the_cluster_s() -> None:
    templates = "".join(file.read_text() for file in (APPS / "sd-runtime" / "templates").iterdir())
    assert set(re.findall(r"\.Values\.cluster\.(\w+)", templates)) == SAID_OF_THE_CLUSTER["cluster"].keys()
    defaults, given = (
        yaml.safe_load((APPS / "sd-runtime" / name).read_text()) for name in ("values.yaml", "cluster-defaults.yaml")
    )
    assert given == {key: defaults[key] for key in ("cluster", "images")}


@pytest.mark.parametrize("absent", ["cluster", "runtime"])
def test_a_folder_without_a_file_that_it_needs_is_refused(absent: str) -> None:
    given = {"cluster": LOCATION, "images": IMAGES, "name": "sdxl", "runtime": {"engine": "sdwebui"}}
    del given[absent]
    with pytest.raises(RenderFailed, match=absent):
        render(APPS / "sd-runtime", given)


@pytest.mark.parametrize("name", ["Bad_Name", "sd1.5", "-x"])
def test_a_folder_with_a_bad_name_is_refused_by_its_own_application(name: str) -> None:
    with pytest.raises(RenderFailed, match="name"):
        runtime(name=name)


def test_a_folder_that_goes_takes_everything_with_it() -> None:
    spec = runtimes()
    assert spec["syncPolicy"] == {"applicationsSync": "sync"}
    assert spec["template"]["metadata"]["finalizers"] == ["resources-finalizer.argocd.argoproj.io"]
    assert spec["template"]["spec"]["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}


def test_the_number_of_pods_is_left_to_keda() -> None:
    spec = runtimes()["template"]["spec"]
    ignored = {(entry["group"], entry["kind"]): entry["jsonPointers"] for entry in spec["ignoreDifferences"]}
    assert ignored == {("apps", "Deployment"): ["/spec/replicas"]}
    assert {"RespectIgnoreDifferences=true", "ServerSideApply=true"} <= set(spec["syncPolicy"]["syncOptions"])


def test_what_is_not_in_git_is_written_by_nobody_but_its_owner() -> None:
    # Argo CD applies, by force, the values that it finds of a field that it ignores: of Crossplane's resourceRefs too.
    for name, item in {**applications(), **add_ons()}.items():
        assert "ignoreDifferences" not in item["spec"], name


def test_a_commit_renders_only_what_it_changes() -> None:
    rendered = {**applications(), "runtimes": runtimes()["template"]}
    for name, item in rendered.items():
        for entry in sources(item["spec"]):
            if entry["repoURL"] == GITOPS["repository"]:
                paths = item["metadata"]["annotations"]["argocd.argoproj.io/manifest-generate-paths"].split(";")
                used = [f"/{entry['path']}"] if "path" in entry else []
                files = entry.get("helm", {}).get("valueFiles", ())
                assert all(any(file.startswith(path) for path in paths) for file in (*used, *files)), name


def test_what_failed_is_tried_again_with_the_newest_commit_until_argo_cd_ends_it() -> None:
    for name, item in {**applications(), **add_ons(), "runtimes": runtimes()["template"]}.items():
        retry = item["spec"]["syncPolicy"]["retry"]
        assert (retry["limit"], retry["refresh"]) == (-1, True), name
    # Without an end a folder could be removed in vain: while a sync goes on an Application is not deleted.
    assert int(values("argo-cd")["configs"]["params"]["controller.sync.timeout.seconds"]) == 900


# What must not go


def test_no_application_of_the_platform_takes_anything_with_it() -> None:
    for name, item in {**applications(), **add_ons()}.items():
        assert "finalizers" not in item["metadata"], name


def test_what_others_hang_on_is_not_pruned() -> None:
    rendered = root()
    for kind, name in (("AppProject", "platform"), ("AppProject", "runtimes"), ("ApplicationSet", "runtimes")):
        assert {"Prune=false", "Delete=false"} <= sync_options(one(rendered, kind, name)), name
    for name in ("crossplane-packages", "crossplane-apis", "karpenter-crds"):
        assert applications()[name]["spec"]["syncPolicy"]["automated"]["prune"] is False, name


@pytest.mark.parametrize("kind", ["Storage", "Namespace"])
def test_nothing_that_argo_cd_does_takes_the_data(kind: str) -> None:
    platform = render(APPS / "platform", {"cluster": LOCATION, "images": IMAGES}, name="platform")
    found = [item for item in platform if item["kind"] == kind]
    assert found
    for item in found:
        assert {"Prune=false", "Delete=false"} <= sync_options(item)


def test_a_runtime_has_no_data() -> None:
    assert not {kind for _, kind in kinds(runtime())} & {"Storage", "PersistentVolume", "PersistentVolumeClaim"}


# The clusters of the repository


@pytest.mark.parametrize(
    "folder", sorted(file.parent for file in CLUSTERS.glob("*/cluster.yaml")), ids=lambda p: p.name
)
def test_a_cluster_that_names_a_repository_renders(folder: Path) -> None:
    cluster = yaml.safe_load((folder / "cluster.yaml").read_text())["cluster"]
    if "gitops" not in cluster:
        pytest.skip("it is kept without Argo CD")
    assert render(CHART, folder / "cluster.yaml", folder / "images.yaml")
    assert cluster["name"] == folder.name
