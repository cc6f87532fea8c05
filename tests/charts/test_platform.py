"""What is there once in a cluster: composites, the volume of models, the janitor, and what guards and watches them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom_agent import janitor
from darkroom_agent.metrics import Metrics
from darkroom_contract.cluster import Cluster, Images
from darkroom_contract.names import Bucket
from darkroom_contract.types import Description
from darkroom_function.apis import API_VERSION, ClusterAccessSpec, PromptApiSpec, StorageSpec
from tests.charts.clusters import FILE_SYSTEM
from tests.charts.helm import APPS, RenderFailed, one, render

CHART = APPS / "platform"
DIGEST = f"@sha256:{'0' * 64}"
IMAGES = Images(
    agent=f"registry.example/agent{DIGEST}", api=f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/api{DIGEST}"
)
PLAIN = {"name": "main", "account": "111122223333", "region": "eu-west-1", "eksName": "main-eks"}
EMULATOR = {"endpoint": "http://10.0.0.1:5000"}
RICH = {
    **PLAIN,
    "tenants": [{"name": "default"}, {"name": "acme", "dailyQuota": 20_000_000, "rateLimit": 0.5, "keys": ["a", "b"]}],
    "api": {"stage": "live", "timeout": 20, "concurrency": None},
    "retention": {"jobs": 90, "outputs": 365, "logs": 7},
    "inputBuckets": ["photos"],
    "models": {"efs": {**FILE_SYSTEM, "fileSystemId": None}},
    "protected": False,
    "subscribers": [
        {"name": "ops", "protocol": "email", "endpoint": "ops@example.com", "filter": {"tenant": ["acme"]}}
    ],
    "alarms": {"topicArn": "arn:aws:sns:eu-west-1:111122223333:ops", "longestWaitMinutes": 30},
}


def rendered(cluster: dict[str, Any] = PLAIN, images: Images = IMAGES, **fields: Any) -> list[dict[str, Any]]:
    """The objects of a cluster whose description has these fields."""
    return render(CHART, {"cluster": {**cluster, **fields}, "images": images.model_dump(mode="json")})


def janitors_pod(**fields: Any) -> dict[str, Any]:
    job = one(rendered(**fields), "CronJob", "janitor")["spec"]["jobTemplate"]["spec"]
    pod: dict[str, Any] = job["template"]["spec"]
    return pod


def runtimes_pod() -> dict[str, Any]:
    """The template of a runtime's pods."""
    values = {"name": "sdxl", "cluster": PLAIN, "images": {"agent": IMAGES.agent, "sdwebui": IMAGES.agent}}
    objects = render(APPS / "sd-runtime", {**values, "runtime": {"engine": "sdwebui"}})
    template: dict[str, Any] = one(objects, "Deployment")["spec"]["template"]
    return template


# Composites


@pytest.mark.parametrize("description", [PLAIN, RICH], ids=["plain", "rich"])
def test_the_composites_are_those_of_the_clusters_description(description: dict[str, Any]) -> None:
    objects, cluster = rendered(description), Cluster.model_validate(description)
    specs: dict[str, Description] = {
        "Storage": StorageSpec.of(cluster),
        "PromptApi": PromptApiSpec.of(cluster, IMAGES),
        "ClusterAccess": ClusterAccessSpec.of(cluster),
    }
    for kind, spec in specs.items():
        composite = one(objects, kind)
        assert (composite["apiVersion"], composite["metadata"]["name"]) == (API_VERSION, "main")
        assert composite["metadata"]["namespace"] == "darkroom"
        assert type(spec).model_validate(composite["spec"]) == spec


def test_a_cluster_may_be_called_as_yaml_calls_something_else() -> None:
    names = {item["metadata"]["name"] for item in rendered(name="on") if item["apiVersion"] == API_VERSION}
    assert names == {"on"}


def test_no_field_of_a_composite_is_null() -> None:
    composites = [item for item in rendered(RICH) if item["apiVersion"] == API_VERSION]
    assert len(composites) == 3
    assert "null" not in json.dumps(composites)


def test_the_charts_defaults_are_the_descriptions() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert Cluster.model_validate({**PLAIN, **values["cluster"]}) == Cluster.model_validate(PLAIN)
    assert Images.model_validate(values["images"]) == Images()


def test_argo_cd_never_deletes_data_and_nothing_of_a_cluster_without_being_told_twice() -> None:
    options = {
        item["kind"]: item["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-options", "")
        for item in rendered()
    }
    kept = {kind for kind, option in options.items() if option == "Prune=false,Delete=false"}
    asked = {kind for kind, option in options.items() if option == "Prune=confirm,Delete=confirm"}
    assert kept == {"Namespace", "Storage"}
    assert asked == {"PromptApi", "ClusterAccess"}


@pytest.mark.parametrize("image", ["agent", "api"])
def test_an_image_that_was_not_built_yet_is_named(image: str) -> None:
    said = f"images.{image} is empty: continuous integration writes it into clusters/main/images.yaml"
    with pytest.raises(RenderFailed, match=re.escape(said)):
        rendered(images=IMAGES.model_copy(update={image: ""}))


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RenderFailed, match="regoin"):
        rendered(regoin="eu-west-1")


# The volume of models


def test_the_models_are_read_from_the_clusters_bucket_with_a_cache_on_the_node() -> None:
    volume = one(rendered(), "PersistentVolume")["spec"]
    assert volume["csi"]["driver"] == "s3.csi.aws.com"
    attributes = volume["csi"]["volumeAttributes"]
    assert attributes["bucketName"] == Cluster.model_validate(PLAIN).names.bucket(Bucket.MODELS)
    assert (attributes["authenticationSource"], attributes["cache"]) == ("driver", "emptyDir")
    assert {"read-only", "allow-other", "region eu-west-1"} <= set(volume["mountOptions"])
    assert all(isinstance(value, str) for value in attributes.values())


def test_the_models_files_belong_to_who_reads_them() -> None:
    volume = one(rendered(), "PersistentVolume")["spec"]
    runtime = runtimes_pod()["spec"]
    assert {f"uid={runtime['securityContext']['runAsUser']}"} <= set(volume["mountOptions"])
    (claim,) = [each["persistentVolumeClaim"] for each in runtime["volumes"] if "persistentVolumeClaim" in each]
    assert claim["claimName"] == one(rendered(), "PersistentVolumeClaim")["metadata"]["name"]


@pytest.mark.parametrize(
    "fields",
    [{}, {"emulator": EMULATOR}, {"models": {"efs": {**FILE_SYSTEM, "fileSystemId": "fs-01234567"}}}],
    ids=["bucket", "emulator", "EFS"],
)
def test_the_volume_and_its_claim_name_each_other(fields: dict[str, Any]) -> None:
    objects = rendered(**fields)
    volume, claim = one(objects, "PersistentVolume"), one(objects, "PersistentVolumeClaim")
    assert claim["metadata"] == {"name": "models", "namespace": "darkroom"}
    assert volume["spec"]["claimRef"] == claim["metadata"]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    for spec in (volume["spec"], claim["spec"]):
        assert spec["storageClassName"] == ""
        assert spec["accessModes"] == ["ReadOnlyMany"]


def test_a_file_system_is_mounted_once_its_id_is_in_the_description() -> None:
    unknown = rendered(models={"efs": FILE_SYSTEM})
    assert not [item for item in unknown if item["kind"].startswith("PersistentVolume")]
    known = rendered(models={"efs": {**FILE_SYSTEM, "fileSystemId": "fs-01234567"}})
    csi = one(known, "PersistentVolume")["spec"]["csi"]
    assert csi == {"driver": "efs.csi.aws.com", "volumeHandle": "fs-01234567:/models", "readOnly": True}


def test_a_volume_that_is_mounted_otherwise_has_another_name() -> None:
    def volume(**fields: Any) -> tuple[str, str]:
        found = one(rendered(**fields), "PersistentVolume")
        return found["metadata"]["name"], found["spec"]["csi"]["volumeHandle"]

    on_efs = [{"models": {"efs": {**FILE_SYSTEM, "fileSystemId": f"fs-0123456{n}"}}} for n in range(2)]
    volumes = [volume(), volume(region="eu-central-1"), *(volume(**fields) for fields in on_efs)]
    assert len({name for name, _ in volumes}) == len({handle for _, handle in volumes}) == 4
    assert volume(protected=False) == volume()


# The janitor


def test_the_janitor_is_told_all_its_settings_and_no_others() -> None:
    (container,) = janitors_pod()["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    settings = janitor.Settings.load(environment)
    assert settings.names == Cluster.model_validate(PLAIN).names
    assert environment.keys() <= {name.upper() for name in janitor.Settings.model_fields}
    assert container["command"][-1] == janitor.__spec__.name
    assert container["image"] == IMAGES.agent


def test_the_janitor_reaches_the_emulator_where_there_is_one() -> None:
    (container,) = janitors_pod(emulator=EMULATOR)["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment["AWS_ENDPOINT_URL"] == EMULATOR["endpoint"]
    for endpoint, port in ((EMULATOR["endpoint"], 5000), ("http://10.0.0.9", 80)):
        policy = one(rendered(emulator={"endpoint": endpoint}), "NetworkPolicy", "janitor")
        assert policy["spec"]["egress"][-1]["ports"] == [{"protocol": "TCP", "port": port}]


def test_the_janitor_has_the_identity_that_cluster_access_gives_it() -> None:
    account = ClusterAccessSpec.of(Cluster.model_validate(PLAIN)).janitor
    metadata = one(rendered(), "ServiceAccount")["metadata"]
    assert (metadata["namespace"], metadata["name"]) == (account.namespace, account.name)
    assert janitors_pod()["serviceAccountName"] == account.name


def test_the_janitor_may_do_nothing_on_its_node() -> None:
    pod = janitors_pod()
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod["automountServiceAccountToken"]
    assert "tolerations" not in pod, "GPU nodes are not for it"


def test_no_two_janitors_run_at_the_same_time_and_none_for_ever() -> None:
    spec = one(rendered(), "CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0


# Guards


def test_no_pod_of_the_namespace_reaches_anything_by_default() -> None:
    spec = one(rendered(), "NetworkPolicy", "default")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_janitors_policy_is_for_its_pods_and_keeps_instance_metadata_from_it() -> None:
    objects = rendered()
    spec = one(objects, "NetworkPolicy", "janitor")["spec"]
    labels = one(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert "ingress" not in spec
    blocks = [to["ipBlock"] for rule in spec["egress"] for to in rule["to"] if "ipBlock" in to]
    assert {block["cidr"]: block.get("except") for block in blocks} == {
        "0.0.0.0/0": ["169.254.0.0/16"],
        "::/0": ["fd00:ec2::/32", "fe80::/10"],
        "169.254.170.23/32": None,
        "fd00:ec2::23/128": None,
    }


def test_pods_of_the_namespace_are_restricted() -> None:
    labels = one(rendered(), "Namespace")["metadata"]["labels"]
    assert set(labels.values()) == {"restricted"}


@pytest.mark.parametrize("name", ["darkroom-composites", "darkroom-identity"])
def test_an_admission_policy_is_bound_and_denies(name: str) -> None:
    objects = rendered()
    policy, binding = (one(objects, f"ValidatingAdmissionPolicy{suffix}", name) for suffix in ("", "Binding"))
    assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert all({"message", "messageExpression"} & each.keys() for each in policy["spec"]["validations"])


def test_the_pods_that_have_to_have_an_identity_are_those_that_get_one() -> None:
    policy = one(rendered(), "ValidatingAdmissionPolicy", "darkroom-identity")["spec"]
    (names,) = (each["values"] for each in policy["matchConstraints"]["objectSelector"]["matchExpressions"])
    janitor_labels = one(rendered(), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    runtime = runtimes_pod()
    assert set(names) == {
        labels["app.kubernetes.io/name"] for labels in (janitor_labels, runtime["metadata"]["labels"])
    }
    (expression,) = (each["expression"] for each in policy["validations"])
    for container in (*janitors_pod()["containers"], *runtime["spec"]["containers"]):
        assert f"'{container['name']}'" in expression
    assert "darkroom-identity" not in [item["metadata"]["name"] for item in rendered(emulator=EMULATOR)]


def test_keda_measures_queues_by_its_own_role_or_by_the_agents_credentials_for_an_emulator() -> None:
    assert one(rendered(), "TriggerAuthentication", "aws")["spec"] == {"podIdentity": {"provider": "aws"}}
    spec = one(rendered(emulator=EMULATOR), "TriggerAuthentication", "aws")["spec"]
    assert {item["parameter"]: (item["containerName"], item["name"]) for item in spec["env"]} == {
        "awsAccessKeyID": ("agent", "AWS_ACCESS_KEY_ID"),
        "awsSecretAccessKey": ("agent", "AWS_SECRET_ACCESS_KEY"),
    }


# What is watched


def exposed() -> set[str]:
    """The names of all series of an agent."""
    text = Metrics("sdxl").exposition()[0].decode()
    families = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    histograms = {
        f"{name}_{part}" for name, kind in families if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    return histograms | {name for name, kind in families if kind != "histogram"}


def test_the_dashboard_shows_series_that_agents_have() -> None:
    dashboard = json.loads(one(rendered(), "ConfigMap", "dashboard")["data"]["darkroom.json"])
    assert dashboard == json.loads(Path(CHART, "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"]]
    shown = set(re.findall(r"darkroom_\w+", " ".join(queries)))
    assert len(shown) > 5
    assert shown <= exposed()


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads(Path(CHART, "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_agents_are_scraped_by_the_name_of_their_port() -> None:
    monitor = one(rendered(), "PodMonitor")["spec"]
    template = runtimes_pod()
    ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_beside_an_emulator_nothing_is_watched() -> None:
    kinds = {item["kind"] for item in rendered()} - {item["kind"] for item in rendered(emulator=EMULATOR)}
    assert kinds == {"PodMonitor", "ConfigMap"}
