"""What Karpenter is told of the GPU nodes."""

import re
import tomllib
from typing import Any

import jsonschema
import pytest
import yaml

from darkroom_contract.cluster import Cluster
from darkroom_contract.gpus import GPUS_PER_MACHINE, Gpu
from darkroom_contract.nodes import GpuNodes, GpuPool
from tests.charts.clusters import FILE_SYSTEM
from tests.charts.helm import APPS, one, render
from tests.compositions.crds import strict
from tests.e2e.controlplane.binaries import source

CHART = APPS / "gpu-nodes"
LOCATION = {"name": "main", "account": "111122223333", "region": "eu-west-1", "eksName": "main-eks"}
EMULATOR = {"emulator": {"endpoint": "http://aws"}}
EFS = {"models": {"efs": FILE_SYSTEM}}
SNAPSHOT = {"gpuNodes": {"raid0": False, "imageSnapshotId": "snap-0123456789abcdef0"}}
ON_EBS = {"gpuNodes": {"raid0": False}}


def nodes(**cluster: Any) -> list[dict[str, Any]]:
    return render(CHART, {"cluster": {**LOCATION, **cluster}})


def pools(*entries: dict[str, Any], **cluster: Any) -> dict[str, dict[str, Any]]:
    rendered = nodes(gpuNodes={"pools": list(entries)}, **cluster)
    return {item["metadata"]["name"]: item["spec"] for item in rendered if item["kind"] == "NodePool"}


def pool(**cluster: Any) -> dict[str, Any]:
    spec: dict[str, Any] = one(nodes(**cluster), "NodePool")["spec"]
    return spec


def node_class(**cluster: Any) -> dict[str, Any]:
    spec: dict[str, Any] = one(nodes(**cluster), "EC2NodeClass")["spec"]
    return spec


def runtime() -> list[dict[str, Any]]:
    """A runtime as its chart makes it of the fewest words."""
    image = f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom@sha256:{'0' * 64}"
    return render(
        APPS / "sd-runtime",
        {
            "name": "sdxl",
            "cluster": LOCATION,
            "images": {"agent": image, "sdwebui": image, "comfyui": image},
            "runtime": {"engine": "sdwebui", "checkpoint": "sdxl.safetensors"},
        },
    )


def requirements(spec: dict[str, Any]) -> dict[str, set[str]]:
    entries = spec["template"]["spec"]["requirements"]
    assert {entry["operator"] for entry in entries} == {"In"}
    return {entry["key"]: set(entry["values"]) for entry in entries}


def seconds(duration: str) -> int:
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found, duration
    return 60 * int(found[1] or 0) + int(found[2] or 0)


# What is there


def test_without_a_word_the_nodes_are_the_models_defaults() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())["cluster"]["gpuNodes"]
    assert defaults == GpuNodes().model_dump(mode="json", by_alias=True)


def test_a_pool_of_which_only_the_gpu_is_said_is_the_models_default() -> None:
    default = GpuPool(gpu=Gpu.G6).model_dump(mode="json", by_alias=True)
    assert pools({"gpu": "g6"}) == pools(default)


def test_every_gpu_has_a_pool_of_its_own_instance_types() -> None:
    found = pools(*({"gpu": gpu.value} for gpu in Gpu))
    assert found.keys() == {f"gpu-{gpu}" for gpu in Gpu}
    for name, spec in found.items():
        gpu = name.removeprefix("gpu-")
        assert spec["template"]["metadata"]["labels"] == {"darkroom.dev/gpu": gpu}
        types = requirements(spec)["node.kubernetes.io/instance-type"]
        assert types
        assert {type_.partition(".")[0] for type_ in types} <= {gpu, f"{gpu}e"}


def test_no_instance_type_is_in_two_pools() -> None:
    types = yaml.safe_load((CHART / "instance-types.yaml").read_text())
    assert types.keys() == set(Gpu)
    every = [type_ for some in types.values() for type_ in some]
    assert len(every) == len(set(every))


#: EC2 user guide, "Accelerated computing instances": the GPUs of the sizes that are bought.
GPUS_OF_A_SIZE = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "24xlarge": 8}


def test_every_instance_type_has_the_gpus_that_the_contract_reckons_with() -> None:
    types = yaml.safe_load((CHART / "instance-types.yaml").read_text())
    for gpu, some in types.items():
        assert {GPUS_OF_A_SIZE[type_.partition(".")[2]] for type_ in some} == {GPUS_PER_MACHINE[gpu]}


def test_the_smallest_instance_type_is_the_one_that_pods_are_made_for() -> None:
    types = yaml.safe_load((CHART / "instance-types.yaml").read_text())
    gpus = yaml.safe_load((APPS / "sd-runtime" / "gpus.yaml").read_text())
    assert {gpu: some[0] for gpu, some in types.items()} == {gpu: gpus[gpu]["smallest"]["type"] for gpu in types}
    assert {gpu: gpus[gpu]["smallest"]["gpus"] for gpu in types} == GPUS_PER_MACHINE


def test_all_pools_share_the_one_node_class() -> None:
    rendered = nodes(gpuNodes={"pools": [{"gpu": "g5"}, {"gpu": "g6"}]})
    name = one(rendered, "EC2NodeClass")["metadata"]["name"]
    for item in rendered:
        if item["kind"] == "NodePool":
            reference = item["spec"]["template"]["spec"]["nodeClassRef"]
            assert reference == {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": name}


@pytest.mark.parametrize(
    ("capacity", "bought"),
    [("any", {"spot", "on-demand"}), ("spot", {"spot"}), ("on-demand", {"on-demand"})],
)
def test_nodes_are_bought_as_the_pool_says(capacity: str, bought: set[str]) -> None:
    (spec,) = pools({"gpu": "g5", "capacity": capacity}).values()
    assert requirements(spec)["karpenter.sh/capacity-type"] == bought


def test_a_pool_has_no_more_gpus_than_it_may() -> None:
    (spec,) = pools({"gpu": "g5", "maxGpus": 3}).values()
    assert spec["limits"] == {"nvidia.com/gpu": 3}


# Who may run there, and until when


def test_only_pods_that_tolerate_gpus_run_there() -> None:
    assert pool()["template"]["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]


@pytest.mark.parametrize(("models", "driver"), [({}, "s3.csi.aws.com"), (EFS, "efs.csi.aws.com")])
def test_no_pod_runs_before_the_driver_of_the_models_volume(models: dict[str, Any], driver: str) -> None:
    taints = pool(**models)["template"]["spec"]["startupTaints"]
    assert taints == [{"key": f"{driver}/agent-not-ready", "effect": "NoExecute"}]


def test_nothing_takes_a_node_that_is_at_work() -> None:
    spec = pool()
    assert spec["template"]["spec"]["expireAfter"] == "Never"
    disruption = spec["disruption"]
    assert disruption["consolidationPolicy"] == "WhenEmpty"
    assert disruption["budgets"] == [{"nodes": "0", "reasons": ["Drifted", "Underutilized"]}]


def test_a_drain_tells_pods_at_once_and_gives_them_the_time_to_finish() -> None:
    # What Karpenter could not evict it deletes when the time that the node has left is the pod's grace (karpenter.sh,
    # "Disruption", "TerminationGracePeriod"): with no more time than that, at once.
    pod = one(runtime(), "Deployment")["spec"]["template"]["spec"]
    (agent,) = pod["containers"]
    environment = {item["name"]: item.get("value") for item in agent["env"]}
    budget = int(environment["SHUTDOWN_BUDGET_SECONDS"])
    assert (
        budget < seconds(pool()["template"]["spec"]["terminationGracePeriod"]) <= pod["terminationGracePeriodSeconds"]
    )


def test_a_runtimes_pods_find_their_nodes() -> None:
    pod = one(runtime(), "Deployment")["spec"]["template"]["spec"]
    template = pool()["template"]
    assert pod["nodeSelector"].items() <= template["metadata"]["labels"].items()
    tolerated = {(item["key"], item["effect"]) for item in pod["tolerations"]}
    assert {(item["key"], item["effect"]) for item in template["spec"]["taints"]} <= tolerated


def test_an_empty_node_goes_sooner_than_a_pod_without_work() -> None:
    consolidate_after = seconds(pool()["disruption"]["consolidateAfter"])
    assert 0 < consolidate_after < one(runtime(), "ScaledObject")["spec"]["cooldownPeriod"]


# What a node is made of


def test_a_node_runs_one_version_of_bottlerocket_that_mounts_everything_on_its_disks() -> None:
    (term,) = node_class()["amiSelectorTerms"]
    found = re.fullmatch(r"bottlerocket@v(\d+)\.(\d+)\.(\d+)", term["alias"])
    assert found
    assert tuple(map(int, found.groups())) >= (1, 46, 0)


@pytest.mark.parametrize("name", ["main-eks", "123"])
def test_a_node_has_the_clusters_profile_and_network(name: str) -> None:
    spec = node_class(eksName=name)
    cluster = Cluster.model_validate({**LOCATION, "eksName": name})
    assert spec["instanceProfile"] == cluster.names.node_instance_profile
    discovery = [{"tags": {"karpenter.sh/discovery": cluster.eks_name}}]
    assert spec["subnetSelectorTerms"] == discovery
    assert spec["securityGroupSelectorTerms"] == discovery


def test_pods_do_not_reach_the_nodes_metadata() -> None:
    options = node_class()["metadataOptions"]
    assert options == {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}


@pytest.mark.parametrize("variant", [{}, ON_EBS, SNAPSHOT])
def test_every_volume_is_encrypted_and_goes_with_its_node(variant: dict[str, Any]) -> None:
    mappings = node_class(**variant)["blockDeviceMappings"]
    assert {item["deviceName"] for item in mappings} == {"/dev/xvda", "/dev/xvdb"}
    assert all(item["ebs"]["encrypted"] and item["ebs"]["deleteOnTermination"] for item in mappings)


@pytest.mark.parametrize("variant", [{}, ON_EBS])
def test_images_are_pulled_in_parallel(variant: dict[str, Any]) -> None:
    settings = tomllib.loads(node_class(**variant)["userData"])["settings"]
    assert settings["container-runtime"] == {"snapshotter": "soci"}
    soci = settings["container-runtime-plugins"]["soci-snapshotter"]
    assert soci["pull-mode"] == "parallel-pull-unpack"
    # bottlerocket.dev, "container-runtime-plugins": the keys that there are.
    assert soci["parallel-pull-unpack"].keys() <= {
        "concurrent-download-chunk-size",
        "discard-unpacked-layers",
        "max-concurrent-downloads",
        "max-concurrent-downloads-per-image",
        "max-concurrent-unpacks",
        "max-concurrent-unpacks-per-image",
    }


def test_images_are_on_the_instances_own_disks_unless_it_is_said_otherwise() -> None:
    assert node_class()["instanceStorePolicy"] == "RAID0"
    spec = node_class(**ON_EBS)
    assert "instanceStorePolicy" not in spec
    data = spec["blockDeviceMappings"][1]["ebs"]
    # EC2 user guide, "General Purpose SSD volumes": 0.25 MiB/s for each IOPS.
    assert data["throughput"] <= data["iops"] / 4


def test_images_from_a_snapshot_are_neither_masked_nor_pulled_another_way() -> None:
    spec = node_class(**SNAPSHOT)
    assert "instanceStorePolicy" not in spec
    assert "userData" not in spec
    data = spec["blockDeviceMappings"][1]
    assert data["deviceName"] == "/dev/xvdb"
    assert data["ebs"]["snapshotID"] == SNAPSHOT["gpuNodes"]["imageSnapshotId"]
    assert data["ebs"]["volumeInitializationRate"] == 300


# With an emulator


def test_beside_an_emulator_the_nodes_are_simulated_and_else_the_same() -> None:
    emulated = nodes(**EMULATOR)
    assert {item["kind"] for item in emulated} == {"NodePool", "KWOKNodeClass"}
    spec, real = one(emulated, "NodePool")["spec"], pool()
    name = one(emulated, "KWOKNodeClass")["metadata"]["name"]
    assert spec["template"]["spec"].pop("nodeClassRef") == {
        "group": "karpenter.kwok.sh",
        "kind": "KWOKNodeClass",
        "name": name,
    }
    # No driver is there that would take the taint away.
    del real["template"]["spec"]["nodeClassRef"], real["template"]["spec"]["startupTaints"]
    assert spec == real


# As Karpenter takes it


@pytest.mark.parametrize(
    "cluster",
    [{}, SNAPSHOT, ON_EBS, EFS, EMULATOR, {"gpuNodes": {"pools": [{"gpu": gpu.value} for gpu in Gpu]}}],
    ids=["default", "snapshot", "ebs", "efs", "emulator", "every-gpu"],
)
def test_karpenters_crds_know_every_field(cluster: dict[str, Any]) -> None:
    Cluster.model_validate({**LOCATION, **cluster})
    known = schemas()
    for item in nodes(**cluster):
        validator = jsonschema.Draft202012Validator(known[item["apiVersion"], item["kind"]])
        assert [error.message for error in validator.iter_errors(item.get("spec", {}))] == []


def schemas() -> dict[tuple[str, str], Any]:
    found = {}
    for component in ("karpenter-provider-aws", "karpenter"):
        for file in source(component).glob("**/crds/*.yaml"):
            crd = yaml.safe_load(file.read_text())["spec"]
            for version in crd["versions"]:
                schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
                found[f"{crd['group']}/{version['name']}", crd["names"]["kind"]] = strict(schema)
    return found
