"""What a folder in ``runtimes/`` becomes: the composite, the pods, and how they are scaled."""

import ipaddress
import json
import math
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from darkroom.cluster_files import ClusterFiles, check_cluster, load_cluster
from darkroom.local.stack import Options, Stack
from darkroom_agent.settings import Settings
from darkroom_contract.cluster import Alarms, Cluster, Images, Tenant
from darkroom_contract.engines import own_options
from darkroom_contract.gpus import GPUS_PER_MACHINE, MACHINES, Gpu
from darkroom_contract.names import Bucket
from darkroom_contract.runtime import ONE_ENGINE_ONLY, Runtime
from darkroom_contract.types import Engine
from darkroom_contract.workflows import Workflow
from darkroom_function.apis import ModelRuntimeSpec
from tests.charts.helm import APPS, CLUSTERS, RenderFailed, one, render
from tests.e2e.kubelet.environment import expand, expand_all

CHART = APPS / "sd-runtime"
GPUS: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "gpus.yaml").read_text())
CLUSTER = Cluster(name="main", account="111122223333", region="eu-west-1", eks_name="main-eks")
#: With nodes of every class.
EVERY_GPU = Cluster.model_validate(
    {**CLUSTER.location.model_dump(), "gpuNodes": {"pools": [{"gpu": gpu, "maxGpus": 8} for gpu in Gpu]}}
)
IMAGES = Images(**{name: f"registry.example/{name}@sha256:{'0' * 64}" for name in ("agent", "sdwebui", "comfyui")})
EMULATOR = {"endpoint": "http://10.0.0.1:5000"}
MEBIBYTES = {"Mi": 1, "Gi": 1024}


def rendered(cluster: Cluster = EVERY_GPU, name: str = "sdxl", **runtime: Any) -> list[dict[str, Any]]:
    """The objects of a runtime, whose description has these fields."""
    values = {
        "name": name,
        "cluster": cluster.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "images": IMAGES.model_dump(mode="json"),
        "runtime": {"engine": "sdwebui", **runtime},
    }
    return render(CHART, values, name=name)


def pod(**runtime: Any) -> dict[str, Any]:
    template: dict[str, Any] = one(rendered(**runtime), "Deployment")["spec"]["template"]["spec"]
    return template


def containers(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in [*spec["initContainers"], *spec["containers"]]}


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item.get("value", "from the pod") for item in container["env"]}


class Received(NamedTuple):
    """What a container's program gets."""

    arguments: list[str]
    environment: dict[str, str]


def received(container: dict[str, Any]) -> Received:
    """A container's arguments and variables, as Kubernetes has expanded them."""
    made: dict[str, str] = {}
    # A variable may refer to those before it: the downward API's are put there, which the chart has at the end.
    for item in sorted(container.get("env", []), key=lambda item: "value" in item):
        made[item["name"]] = expand(item.get("value", "from the pod"), made)
    return Received(expand_all(container.get("args", []), made), made)


def scaled(**scaling: Any) -> dict[str, Any]:
    spec: dict[str, Any] = one(rendered(scaling=scaling), "ScaledObject")["spec"]
    return spec


def trigger(spec: dict[str, Any]) -> dict[str, str]:
    metadata: dict[str, str] = spec["triggers"][0]["metadata"]
    return metadata


def seconds_of(probe: dict[str, Any]) -> int:
    """How long a probe may fail before the container is restarted."""
    return int(probe["periodSeconds"] * probe["failureThreshold"])


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * MEBIBYTES[quantity[-2:]]


def thousandths(cpu: str) -> float:
    return float(cpu.removesuffix("m")) * (1 if cpu.endswith("m") else 1000)


# The description


def test_what_a_description_leaves_out_has_the_models_defaults() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert Runtime.model_validate({"engine": "sdwebui", **defaults["runtime"]}) == Runtime(engine=Engine.SDWEBUI)
    location = CLUSTER.location.model_dump(by_alias=True)
    assert Cluster.model_validate({**location, **defaults["cluster"]}) == CLUSTER
    assert Images.model_validate(defaults["images"]) == Images()


def test_every_field_that_a_description_may_leave_out_has_a_default_in_the_chart() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())["runtime"]
    assert defaults == Runtime(engine=Engine.SDWEBUI).model_dump(mode="json", by_alias=True, exclude={"engine"})


@pytest.mark.parametrize("image", ["agent", "sdwebui"])
def test_an_image_that_was_not_built_yet_is_named(image: str) -> None:
    with pytest.raises(RenderFailed, match=rf"images.{image} is empty: .* into clusters/main/images.yaml"):
        render(
            CHART,
            {
                "name": "sdxl",
                "cluster": CLUSTER.location.model_dump(by_alias=True),
                "images": {**IMAGES.model_dump(mode="json"), image: ""},
                "runtime": {"engine": "sdwebui"},
            },
        )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("replicas", 3, "replicas"),
        ("engine", "forge", "engine"),
        ("gpu", "g7", "gpu"),
        ("image", "registry.example/comfyui:latest", "image"),
        ("scaling", {"maxpods": 2}, "maxpods"),
    ],
)
def test_what_the_description_does_not_know_is_refused_by_its_name(field: str, value: Any, said: str) -> None:
    with pytest.raises(RenderFailed, match=said):
        rendered(**{field: value})


@pytest.mark.parametrize(
    ("pools", "runtime"),
    [
        (None, {"gpu": "p5"}),
        ([{"gpu": "g6"}, {"gpu": "g4dn"}], {}),
        ([{"gpu": "g5", "capacity": "spot"}], {"capacity": "on-demand"}),
        ([{"gpu": "g5", "capacity": "on-demand"}], {"capacity": "spot"}),
        (None, {"scaling": {"minPods": 5}}),
        (None, {"scaling": {"minPods": 2, "maxPods": 1}}),
        (None, {"engine": "comfyui", "dynamicCheckpoint": True}),
        (None, {"customNodes": "custom_nodes/video"}),
        (None, {"allowedNodes": ["Load*"]}),
        (None, {"deniedNodes": ["Load*"]}),
    ],
    ids=str,
)
def test_what_would_never_run_is_refused_in_the_words_of_validate(
    tmp_path: Path, pools: list[dict[str, str]] | None, runtime: dict[str, Any]
) -> None:
    nodes = {"gpuNodes": {"pools": pools}} if pools else {}
    cluster = {"cluster": {**CLUSTER.location.model_dump(by_alias=True), "account": "444455556666", **nodes}}
    described = {"runtime": {"engine": "sdwebui", **runtime}}
    folder = tmp_path / "main"
    for file, value in (("cluster.yaml", cluster), ("runtimes/sdxl/runtime.yaml", described)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(value))
    [finding] = [each for each in check_cluster(folder)[1] if each.is_error]
    with pytest.raises(RenderFailed) as refused:
        render(CHART, cluster, {"images": IMAGES.model_dump(mode="json"), "name": "sdxl"}, described)
    assert f"{finding.field}: {finding.words}" in str(refused.value)


def test_what_only_one_engine_has_a_use_for_is_refused_to_the_other() -> None:
    for field, (engine, _) in ONE_ENGINE_ONLY.items():
        name = Runtime.model_fields[field].alias or field
        value = True if field == "dynamic_checkpoint" else "nodes" if field == "custom_nodes" else ["Load*"]
        [other] = {*Engine} - {engine}
        given: dict[str, Any] = {name: value}
        rendered(engine=engine, **given)
        with pytest.raises(RenderFailed, match=f"runtime.{name}: it is for {engine}"):
            rendered(engine=other, **given)


def test_the_web_ui_has_no_workflows() -> None:
    values = {
        "cluster": CLUSTER.location.model_dump(by_alias=True),
        "images": IMAGES.model_dump(mode="json"),
        "name": "sdxl",
        "workflows": {"landscape": {"graph": {"1": {"class_type": "A", "inputs": {}}}}},
    }
    render(CHART, values, {"runtime": {"engine": "comfyui"}})
    with pytest.raises(RenderFailed, match="only ComfyUI has workflows"):
        render(CHART, values, {"runtime": {"engine": "sdwebui"}})


def test_nodes_of_either_kind_serve_a_runtime_that_does_not_mind() -> None:
    for sold in ("any", "spot", "on-demand"):
        pools = [{"gpu": "g5", "capacity": sold}]
        cluster = Cluster.model_validate({**CLUSTER.location.model_dump(), "gpuNodes": {"pools": pools}})
        for wanted in {"any", sold} if sold != "any" else {"any", "spot", "on-demand"}:
            assert rendered(cluster, capacity=wanted)


def test_a_runtime_of_another_image_needs_none_of_the_cluster_s() -> None:
    image = f"registry.example/mine@sha256:{'1' * 64}"
    assert containers(pod(image=image))["engine"]["image"] == image


# The composite

_NAMES = st.sampled_from(["null", "on", "yes", "true", "e5"]) | st.from_regex(
    r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True
)
_REGIONS = st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1"])
_CLUSTERS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["on", "null", "y"]) | st.from_regex(r"[a-z][a-z0-9]{0,19}", fullmatch=True),
        "account": st.sampled_from(["000000000001", "012345678901", "111122223333"]),
        "region": _REGIONS,
        "eksName": st.sampled_from(["123", "1e3", "true", "main"]),
        "inputBuckets": st.sampled_from([(), ("in-1", "in-2")]),
        "tenants": st.sampled_from([[{"name": "default"}], [{"name": "on"}, {"name": "acme"}]]),
    }
).map(Cluster.model_validate)
_RUNTIMES = st.fixed_dictionaries(
    {"engine": st.sampled_from(list(Engine))},
    optional={
        "accepting": st.booleans(),
        "defaultForCheckpoint": st.booleans(),
        "checkpoint": st.sampled_from(["a.safetensors", "- 1e3.pt", 'a "b": {c} \u00e9\U0001f600.ckpt', "{{ x }}.bin"]),
        "maxStarts": st.integers(1, 10),
    },
)


@settings(max_examples=25, deadline=None)
@given(cluster=_CLUSTERS, name=_NAMES, fields=_RUNTIMES, alarms=st.sampled_from([None, 5, 10080]))
def test_the_composite_is_what_the_description_asks_for(
    cluster: Cluster, name: str, fields: dict[str, Any], alarms: int | None
) -> None:
    if alarms:
        topic = cluster.names.topic_arn("ops")
        cluster = cluster.model_copy(update={"alarms": Alarms(topic_arn=topic, longest_wait_minutes=alarms)})
    runtime = Runtime.model_validate(fields)
    objects = rendered(cluster, name, **fields)
    found = ModelRuntimeSpec.model_validate(one(objects, "ModelRuntime", name)["spec"])
    assert found == ModelRuntimeSpec.of(name, runtime, cluster, namespace="darkroom", service_account=name)


def test_the_composite_has_the_workflows_as_their_files_have_them() -> None:
    files = load_cluster(CLUSTERS / "local")
    values_of_all_types: JsonValue = {
        "class_type": "A",
        "inputs": {"a": [0.0001, 0.1, 7.0, 2**53 - 1, -1, True, None], "b": "<é & 'x'> {{ y }}"},
    }
    landscape = files.workflows["comfyui"]["landscape"]
    workflow = Workflow(graph={**landscape.graph, "20": values_of_all_types}, inputs=landscape.inputs)
    raw = workflow.model_dump(mode="json", by_alias=True, exclude_none=True)
    values = {
        "name": "flux",
        "cluster": CLUSTER.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "images": IMAGES.model_dump(mode="json"),
        "runtime": {"engine": "comfyui"},
        "workflows": {"landscape": raw},
    }
    spec = ModelRuntimeSpec.model_validate(one(render(CHART, values, name="flux"), "ModelRuntime", "flux")["spec"])
    assert spec.workflows["landscape"].to_json() == workflow.to_json()
    assert "workflows" not in one(rendered(), "ModelRuntime")["spec"]


def test_a_sync_waits_for_nothing() -> None:
    # In waves it would wait for AWS, and the next commit, or the folder's removal, for the sync.
    annotations = [item["metadata"].get("annotations", {}) for item in rendered(engine="comfyui")]
    assert not any("argocd.argoproj.io/sync-wave" in each for each in annotations)


def test_a_runtime_that_takes_no_new_jobs_still_works_on_those_that_it_has() -> None:
    before, after = rendered(), rendered(accepting=False)
    assert one(after, "ModelRuntime")["spec"]["accepting"] is False
    assert [item for item in before if item not in after] == [one(before, "ModelRuntime")]


# The agent


def test_the_agent_is_told_the_cluster_s_names_and_the_description() -> None:
    description: dict[str, Any] = {
        "checkpoint": "sdxl/base.safetensors",
        "dynamicCheckpoint": True,
        "jobTimeoutSeconds": 14400,
        "maxStarts": 5,
        "warmup": {"prompt": 'a "dog"', "steps": 1},
        "inputHosts": ["pictures.example.com", "*.example.org"],
    }
    cluster = CLUSTER.model_copy(
        update={"tenants": (Tenant(name="default"), Tenant(name="acme")), "input_buckets": ("in-1", "in-2")}
    )
    template = one(rendered(cluster, **description), "Deployment")["spec"]["template"]["spec"]
    found, names = Settings.load(environment(containers(template)["agent"])), cluster.names
    assert found == Settings.model_validate(
        {
            "queue_url": names.queue_url(names.runtime_queue("sdxl")),
            "dead_letter_queue_url": names.queue_url(names.dead_letter_queue("sdxl")),
            "result_topic_arn": names.topic_arn(names.result_topic),
            "output_bucket": names.bucket(Bucket.OUTPUTS),
            "jobs_bucket": names.bucket(Bucket.JOBS),
            "engine": Engine.SDWEBUI,
            "runtime_name": "sdxl",
            "runtime_url": "http://127.0.0.1:7860",
            "health_port": 8081,
            "shutdown_budget_seconds": 100,
            "job_timeout_seconds": 14400,
            "max_starts": 5,
            "dynamic_checkpoint": True,
            "checkpoint": "sdxl/base.safetensors",
            "input_buckets": ("in-1", "in-2"),
            "input_hosts": ("pictures.example.com", "*.example.org"),
            "tenants": ("default", "acme"),
            "warmup": json.dumps(description["warmup"]),
            "pod_name": "from the pod",
        }
    )


def test_comfyui_s_agent_is_told_which_nodes_a_workflow_may_have() -> None:
    template = pod(engine="comfyui", allowedNodes=["Load*", "KSampler"], deniedNodes=["LoadVideo"])
    found = Settings.load(environment(containers(template)["agent"]))
    assert (found.allowed_nodes, found.denied_nodes) == (("Load*", "KSampler"), ("LoadVideo",))


def test_comfyui_s_agent_deletes_from_the_folders_that_comfyui_writes_into() -> None:
    both = containers(pod(engine="comfyui"))
    found = Settings.load(environment(both["agent"]))
    arguments = dict(item.partition("=")[::2] for item in both["engine"]["args"])
    assert str(found.engine_output_folder) == arguments["--output-directory"] == arguments["--temp-directory"]
    assert str(found.engine_input_folder) == arguments["--input-directory"]
    volumes = [{item["mountPath"]: item["name"] for item in both[name]["volumeMounts"]} for name in ("engine", "agent")]
    for folder in (str(found.engine_output_folder), str(found.engine_input_folder)):
        assert volumes[0][folder] == volumes[1][folder]


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1"])
def test_names_are_those_of_the_region_s_partition(region: str) -> None:
    cluster = CLUSTER.model_copy(update={"region": region})
    objects, names = rendered(cluster), cluster.names
    found = environment(containers(one(objects, "Deployment")["spec"]["template"]["spec"])["agent"])
    assert found["QUEUE_URL"] == names.queue_url(names.runtime_queue("sdxl"))
    assert found["RESULT_TOPIC_ARN"] == names.topic_arn(names.result_topic)
    assert trigger(one(objects, "ScaledObject")["spec"])["queueURL"] == found["QUEUE_URL"]


def test_where_aws_is_an_emulator_all_ask_it() -> None:
    cluster = Cluster.model_validate({**CLUSTER.location.model_dump(), "emulator": EMULATOR})
    objects = rendered(cluster)
    found = environment(containers(one(objects, "Deployment")["spec"]["template"]["spec"])["agent"])
    assert found["AWS_ENDPOINT_URL"] == EMULATOR["endpoint"]
    assert found["QUEUE_URL"] == "http://10.0.0.1:5000/111122223333/main-runtime-sdxl"
    asked = trigger(one(objects, "ScaledObject")["spec"])
    assert (asked["awsEndpoint"], asked["queueURL"]) == (EMULATOR["endpoint"], found["QUEUE_URL"])
    assert is_open(one(objects, "NetworkPolicy")["spec"], "10.0.0.1", 5000)


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_an_emulator_whose_port_is_not_said_is_asked_at_the_scheme_s(scheme: str, port: int) -> None:
    emulator = {"endpoint": f"{scheme}://10.0.0.9"}
    cluster = Cluster.model_validate({**CLUSTER.location.model_dump(), "emulator": emulator})
    assert is_open(one(rendered(cluster), "NetworkPolicy")["spec"], "10.0.0.9", port)


def test_in_aws_the_agent_has_no_credentials_but_its_role_s() -> None:
    assert {name for name in environment(containers(pod())["agent"]) if name.startswith("AWS_")} == {
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    }


class _Named(Stack):
    """A local stack that does not run: only what it would tell an agent."""

    aws_environment = dict.fromkeys(
        ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"], ""
    )

    def queue_url(self, queue: str) -> str:
        return self.names.queue_url(queue)


@pytest.mark.parametrize(
    "description",
    [
        {"engine": "sdwebui"},
        {"engine": "sdwebui", "checkpoint": "a.ckpt", "dynamicCheckpoint": True, "warmup": {"prompt": 'a "dog"'}},
        {"engine": "comfyui", "allowedNodes": ["Load*", "KSampler"], "deniedNodes": ["LoadVideo", "A"]},
        {
            "engine": "comfyui",
            "inputHosts": ["a.example.com", "*.example.org"],
            "maxStarts": 5,
            "jobTimeoutSeconds": 99,
        },
    ],
)
def test_a_pod_s_agent_and_the_local_stack_s_are_told_the_same(description: dict[str, Any]) -> None:
    cluster = Cluster.model_validate(
        {**CLUSTER.location.model_dump(), "emulator": EMULATOR, "inputBuckets": ["in-1", "in-2"]}
    )
    stack = _Named(ClusterFiles(cluster, {"sdxl": Runtime.model_validate(description)}), Options(logs=Path()))
    stack.runtime_urls["sdxl"] = "http://127.0.0.1"
    locally = stack.agent_environment("sdxl")
    template = one(rendered(cluster, **description), "Deployment")["spec"]["template"]["spec"]
    in_a_pod = environment(containers(template)["agent"])
    assert locally.keys() - in_a_pod.keys() == {"RECEIVE_WAIT_SECONDS"}  # it stops sooner
    # What a computer has elsewhere, or not at all: the demo runtime has no folders.
    assert in_a_pod.keys() - locally.keys() <= {"ENGINE_OUTPUT_FOLDER", "ENGINE_INPUT_FOLDER", "POD_NAME"}
    elsewhere = {"QUEUE_URL", "DEAD_LETTER_QUEUE_URL", "RUNTIME_URL", "HEALTH_PORT", "SHUTDOWN_BUDGET_SECONDS"}
    same = {name for name in locally.keys() & in_a_pod.keys() - elsewhere if not name.startswith("AWS_")}
    both = Settings.load({**in_a_pod, **{name: locally[name] for name in same}})
    assert both == Settings.load(in_a_pod)


def test_a_pod_s_agent_is_told_nothing_that_it_does_not_know() -> None:
    known = {name.upper() for name in Settings.model_fields}
    told = environment(containers(pod())["agent"]).keys()
    assert {name for name in told - known if not name.startswith("AWS_")} == set()


# The engine


@pytest.mark.parametrize("engine", list(Engine))
def test_the_engine_is_started_first_and_ends_last(engine: Engine) -> None:
    spec = pod(engine=engine, checkpoint="a.safetensors")
    assert [item["name"] for item in spec["initContainers"]] == ["read-ahead", "models", "engine"]
    assert [item["name"] for item in spec["containers"]] == ["agent"]
    sidecars = [item["name"] for item in spec["initContainers"] if item.get("restartPolicy") == "Always"]
    assert sidecars == ["read-ahead", "engine"]


def test_the_engine_s_image_is_pulled_while_the_models_are_read_and_the_engine_waits_for_both() -> None:
    both = containers(pod(checkpoint="a.safetensors"))
    assert "startupProbe" not in both["read-ahead"]  # the kubelet would not go on to the next image before it is ready
    assert both["models"]["image"] == both["engine"]["image"]
    assert "startupProbe" in both["engine"]


def test_the_engine_s_own_arguments_come_last_and_its_environment_is_its_own() -> None:
    engine = containers(pod(args=["--xformers", "--opt=a b"], env={"B": "1", "A": "true", "ON": "x"}))["engine"]
    assert engine["args"][-2:] == ["--xformers", "--opt=a b"]
    assert environment(engine).items() >= {("A", "true"), ("B", "1"), ("ON", "x")}
    assert not any(name.startswith("AWS_") for name in environment(engine))


@pytest.mark.parametrize("engine", list(Engine))
def test_where_the_engine_listens_and_writes_is_not_the_description_s(engine: Engine) -> None:
    arguments = containers(pod(engine=engine))["engine"]["args"]
    places = [item for item in arguments if "=/" in item or item.startswith(("--listen", "--port"))]
    assert places
    assert own_options(engine, places) == [item.partition("=")[0] for item in places]


def test_the_web_ui_answers_the_agent_s_questions_about_its_queue() -> None:
    arguments = containers(pod(checkpoint="sdxl/a.safetensors", loras="mine"))["engine"]["args"]
    assert "--nowebui" not in arguments
    assert {"--api", "--ckpt=/models/checkpoints/sdxl/a.safetensors", "--lora-dir=/models/mine"} <= set(arguments)


def test_a_folder_may_have_a_name_that_yaml_would_read_otherwise() -> None:
    assert "--lora-dir=/models/mine: #1" in containers(pod(loras="mine: #1"))["engine"]["args"]


@pytest.mark.parametrize("engine", list(Engine))
def test_kubernetes_expands_nothing_in_what_a_description_says(engine: Engine) -> None:
    text = "$(POD_NAME) $(HOME) $$5 $"
    own = {"customNodes": text, "allowedNodes": [text]} if engine is Engine.COMFYUI else {}
    warmup: JsonValue = {"prompt": text}
    template = pod(
        engine=engine, checkpoint=f"{text}.pt", loras=text, args=[text], env={"A": text}, warmup=warmup, **own
    )
    got = {name: received(container) for name, container in containers(template).items()}
    assert f"/models/checkpoints/{text}.pt" in got["read-ahead"].arguments
    assert got["engine"].arguments[-1] == got["engine"].environment["A"] == text
    agent = Settings.load(got["agent"].environment)
    assert (agent.checkpoint, agent.warmup) == (f"{text}.pt", warmup)
    if engine is Engine.COMFYUI:
        assert f"/models/{text}" in got["read-ahead"].arguments
        assert agent.allowed_nodes == (text,)
    else:
        assert {f"--ckpt=/models/checkpoints/{text}.pt", f"--lora-dir=/models/{text}"} <= set(got["engine"].arguments)


def test_a_web_ui_without_a_checkpoint_begins_with_any() -> None:
    assert not [item for item in containers(pod())["engine"]["args"] if item.startswith("--ckpt=")]


def test_comfyui_finds_the_models_and_the_custom_nodes() -> None:
    objects = rendered(engine="comfyui", loras="mine", customNodes="custom_nodes/video")
    paths = yaml.safe_load(one(objects, "ConfigMap")["data"]["model-paths.yaml"])["darkroom"]
    assert (paths["base_path"], paths["loras"], paths["custom_nodes"]) == ("/models", "mine", "custom_nodes/video")
    engine = containers(one(objects, "Deployment")["spec"]["template"]["spec"])["engine"]
    mounts = {item["name"]: item["mountPath"] for item in engine["volumeMounts"]}
    assert f"--extra-model-paths-config={mounts['model-paths']}/model-paths.yaml" in engine["args"]


def test_pods_are_renewed_when_comfyui_s_folders_change() -> None:
    first, second = (
        one(rendered(engine="comfyui", loras=folder), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        for folder in ("loras", "others")
    )
    assert first != second


@pytest.mark.parametrize("engine", list(Engine))
def test_every_folder_of_the_engine_is_there(engine: Engine) -> None:
    spec = pod(engine=engine, checkpoint="a.safetensors")
    container = containers(spec)["engine"]
    mounts = {item["mountPath"] for item in container["volumeMounts"]}
    folders = [item.partition("=")[2].removeprefix("sqlite:///") for item in container["args"] if "=/" in item]
    assert all(any(Path(folder).is_relative_to(mount) for mount in mounts) for folder in folders)


def test_what_is_known_to_be_needed_is_read_ahead() -> None:
    spec = pod(engine="comfyui", checkpoint="flux.safetensors", customNodes="custom_nodes/video")
    paths = [item for item in containers(spec)["read-ahead"]["args"] if not item.startswith("--")]
    assert paths == ["/models/checkpoints/flux.safetensors", "/models/custom_nodes/video"]


def test_nothing_is_read_ahead_or_waited_for_when_nothing_is_known_to_be_needed() -> None:
    assert containers(pod(engine="comfyui")).keys() == {"engine", "agent"}


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts what waits for the models, in a folder of the test's; whenever it waits a second it says so."""
    [script] = containers(pod(checkpoint="a.safetensors"))["models"]["args"]
    assert script.count("/run/read-ahead/") == 1
    sleep = tmp_path / "sleep"
    sleep.write_text("#!/bin/sh\necho waits\nexec /bin/sleep 0.01\n")
    sleep.chmod(0o755)
    script = script.replace("/run/read-ahead/", f"{tmp_path}/").replace("-ge 900", "-ge ${MOST:-900}")
    with ExitStack() as started:

        def start(**variables: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                ["/bin/sh", "-c", script],
                env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


def test_the_engine_begins_when_its_models_are_read(
    waiting: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = waiting()
    assert process.stdout
    assert [process.stdout.readline() for _ in range(3)] == ["waits\n"] * 3
    (tmp_path / "ready").touch()
    assert process.wait(30) == 0
    assert waiting().wait(30) == 0  # should it be started once more


def test_models_that_are_not_read_in_time_are_told_of(waiting: Callable[..., subprocess.Popen[str]]) -> None:
    process = waiting(MOST="3")
    assert process.wait(30) == 1
    assert process.stderr
    assert "the log of the container read-ahead" in process.stderr.read()


def test_a_pod_that_waits_for_its_models_ends_at_once(waiting: Callable[..., subprocess.Popen[str]]) -> None:
    process = waiting()
    assert process.stdout
    assert process.stdout.readline() == "waits\n"
    process.terminate()
    assert process.wait(30) == 143  # by itself: a container's first process would not be ended by the signal


# Probes and the end


@pytest.mark.parametrize(("engine", "path"), [("sdwebui", "/sdapi/v1/options"), ("comfyui", "/system_stats")])
def test_an_engine_has_minutes_to_load_its_model(engine: str, path: str) -> None:
    probe = containers(pod(engine=engine))["engine"]["startupProbe"]
    assert probe["httpGet"]["path"] == path
    assert seconds_of(probe) >= 600
    assert probe["periodSeconds"] <= 2  # which is lost on average, by half, whenever a pod starts


def test_the_engine_s_liveness_is_the_agent_s_opinion_and_bears_with_its_absence() -> None:
    both = containers(pod())
    probe = both["engine"]["livenessProbe"]
    assert probe["httpGet"] == {"path": "/livez/engine", "port": 8081}
    assert environment(both["agent"])["HEALTH_PORT"] == "8081"
    assert seconds_of(probe) > 0 + 10 + 20 + 40  # the kubelet's pauses before four restarts in a row


def test_what_waits_for_the_models_waits_for_the_file_that_read_ahead_makes() -> None:
    both = containers(pod(checkpoint="a.safetensors"))
    ready = next(item for item in both["read-ahead"]["args"] if item.startswith("--ready-file=")).partition("=")[2]
    assert f"[ -e {ready} ]" in both["models"]["args"][0]
    folder, *_ = (item["mountPath"] for item in both["models"]["volumeMounts"] if item["name"] == "read-ahead")
    assert Path(ready).parent == Path(folder)
    assert "-ge 900 ]" in both["models"]["args"][0]


def test_a_pod_that_ends_has_time_to_finish_its_job_and_mountpoint_outlives_it() -> None:
    spec = pod()
    budget = Settings.load(environment(containers(spec)["agent"])).shutdown_budget_seconds
    assert budget < 120  # Spot's notice
    assert budget + 30 < spec["terminationGracePeriodSeconds"] < 600  # Mountpoint's own


def test_a_rollout_takes_no_gpu_more_than_there_are() -> None:
    strategy = one(rendered(), "Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxSurge"] == 0
    assert strategy["maxUnavailable"] != 0


def test_a_new_runtime_starts_no_gpu() -> None:
    assert one(rendered(scaling={"minPods": 2}), "Deployment")["spec"]["replicas"] == 0


# What a pod may do


def unrestricted(template: dict[str, Any]) -> Iterator[str]:
    """What of a pod breaks the restricted Pod Security Standard (kubernetes.io, "Pod Security Standards")."""
    pod_security = template.get("securityContext", {})
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if template.get(name))
    kinds = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    yield from (f"volume {item['name']}" for item in template["volumes"] if not item.keys() - {"name"} <= kinds)
    if pod_security.get("sysctls"):
        yield "sysctls"
    for name, container in containers(template).items():
        own = container.get("securityContext", {})
        security = {**pod_security, **own}
        capabilities = own.get("capabilities", {})
        broken = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
            "privileged": own.get("privileged"),
            "capabilities": "ALL" not in capabilities.get("drop", ())
            or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"},
            "runAsNonRoot": not security.get("runAsNonRoot"),
            "runAsUser": security.get("runAsUser") == 0,
            "seccompProfile": security.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"},
            "procMount": own.get("procMount", "Default") != "Default",
            "hostPort": any("hostPort" in port for port in container.get("ports", ())),
            "probe host": any("host" in probe.get("httpGet", {}) for probe in _probes(container)),
        }
        yield from (f"{name}: {rule}" for rule, is_broken in broken.items() if is_broken)


def _probes(container: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for key, value in container.items() if key.endswith("Probe")]


@pytest.mark.parametrize("engine", list(Engine))
def test_a_pod_keeps_to_the_restricted_standard(engine: Engine) -> None:
    assert list(unrestricted(pod(engine=engine, checkpoint="a.safetensors"))) == []


def test_the_restricted_standard_is_really_looked_for() -> None:
    spec = deepcopy(pod())
    del spec["securityContext"]
    spec["initContainers"][0]["securityContext"]["capabilities"] = {}
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    found = set(unrestricted(spec))
    assert found >= {"volume host", "engine: capabilities", "agent: runAsNonRoot", "agent: seccompProfile"}


@pytest.mark.parametrize("engine", list(Engine))
def test_nothing_is_written_but_into_folders_of_a_bounded_size(engine: Engine) -> None:
    spec = pod(engine=engine, checkpoint="a.safetensors")
    assert all(item["securityContext"]["readOnlyRootFilesystem"] for item in containers(spec).values())
    assert all(item["emptyDir"].get("sizeLimit") for item in spec["volumes"] if "emptyDir" in item)
    models = [
        mount for item in containers(spec).values() for mount in item["volumeMounts"] if mount["name"] == "models"
    ]
    assert len(models) == 2
    assert all(mount["readOnly"] for mount in models)


def test_only_the_agent_gets_credentials() -> None:
    objects = rendered(checkpoint="a.safetensors")
    template = one(objects, "Deployment")["spec"]["template"]
    skipped = template["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"].split(",")
    assert containers(template["spec"]).keys() - set(skipped) == {"agent"}
    assert template["spec"]["automountServiceAccountToken"] is False
    account = one(objects, "ServiceAccount", template["spec"]["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False


# The network


def is_open(policy: dict[str, Any], address: str, port: int) -> bool:
    """Whether a network policy lets a pod connect to an address that is none of a pod's."""
    return any(
        port in [item["port"] for item in rule["ports"]]
        and ("to" not in rule or any(_reaches(peer.get("ipBlock"), address) for peer in rule["to"]))
        for rule in policy["egress"]
    )


def _reaches(block: dict[str, Any] | None, address: str) -> bool:
    if block is None:
        return False
    return _within(address, block["cidr"]) and not any(_within(address, cidr) for cidr in block.get("except", ()))


def _within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)  # False between IPv4 and IPv6


@pytest.mark.parametrize(
    ("address", "port", "is_reached"),
    [
        ("52.218.0.1", 443, True),  # S3, by a gateway endpoint too
        ("93.184.215.14", 80, True),
        ("2600:1f18::1", 443, True),
        ("169.254.170.23", 80, True),  # EKS Pod Identity
        ("fd00:ec2::23", 80, True),
        ("93.184.215.14", 22, False),
        ("169.254.169.254", 80, False),  # the instance's metadata
        ("fd00:ec2::254", 80, False),
        ("169.254.170.2", 80, False),  # another agent's credentials (ECS)
        ("10.1.2.3", 443, False),
        ("172.20.0.1", 443, False),  # the Kubernetes API
        ("192.168.1.1", 80, False),
        ("100.64.0.9", 443, False),
        ("fd12::1", 443, False),
    ],
)
def test_what_a_pod_may_connect_to(address: str, port: int, *, is_reached: bool) -> None:
    assert is_open(one(rendered(), "NetworkPolicy")["spec"], address, port) is is_reached


def test_names_are_resolved_by_the_cluster_alone() -> None:
    policy = one(rendered(), "NetworkPolicy")["spec"]
    rule = next(rule for rule in policy["egress"] if rule["ports"][0]["port"] == 53)
    assert rule["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    assert not is_open(policy, "1.1.1.1", 53)


def test_only_prometheus_may_connect_to_a_pod() -> None:
    objects = rendered()
    policy = one(objects, "NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["podSelector"] == one(objects, "Deployment")["spec"]["selector"]
    (rule,) = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == [8081]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


# Where pods run


def test_every_gpu_has_its_defaults() -> None:
    assert GPUS.keys() == {gpu.value for gpu in Gpu}


#: The addresses of an instance, by which its kubelet's own memory is reckoned (Karpenter's zz_generated.vpclimits.go):
#: network interfaces, and addresses of each.
ADDRESSES = {
    "g4dn.xlarge": (3, 10),
    "g5.xlarge": (4, 15),
    "g6.xlarge": (4, 15),
    "g6e.xlarge": (4, 15),
    "p4d.24xlarge": (60, 50),
    "p5.4xlarge": (4, 30),
}


def left(cpus: int, memory_gib: int, addresses: tuple[int, int]) -> tuple[float, int]:
    """What a machine has for runtimes' pods, in thousandths of a core and mebibytes."""
    # Karpenter 1.14, pkg/providers/instancetype/types.go: the share that the hypervisor takes, the kubelet's own, and
    # what is kept free; and then a gibibyte and half a core for Mountpoint and the daemons.
    pods = addresses[0] * (addresses[1] - 1) + 2
    memory = memory_gib * 1024
    memory -= math.ceil(memory * 0.075) + 11 * pods + 255 + 100 + 1024
    return cpus * 1000 - 80 - max(0, cpus - 4) * 2.5 - 500, memory


@pytest.mark.parametrize("gpu", list(Gpu))
def test_an_engine_that_asks_for_as_much_as_it_may_has_room_on_its_machine(gpu: Gpu) -> None:
    smallest, gpus = GPUS[gpu]["smallest"], GPUS_PER_MACHINE[gpu]
    assert (smallest["cpus"], smallest["memoryGib"]) == tuple(each * gpus for each in MACHINES[gpu][0][:2])
    beside = [item["resources"]["requests"] for item in containers(pod(gpu=gpu, checkpoint="a.ckpt")).values()]
    beside = [asked for asked in beside if "nvidia.com/gpu" not in asked]
    for machine in MACHINES[gpu]:
        # Those above the smallest have 8 interfaces of 30 addresses at most.
        addresses = ADDRESSES[smallest["type"]] if machine is MACHINES[gpu][0] else (8, 30)
        cpus, memory = left(machine.cpus * gpus, machine.memory_gib * gpus, addresses)
        of_others = sum(mebibytes(asked["memory"]) for asked in beside)
        assert (machine.engine_memory_gib * 1024 + of_others) * gpus <= memory
        assert (machine.engine_cpus * 1000 + sum(thousandths(asked["cpu"]) for asked in beside)) * gpus <= cpus


@pytest.mark.parametrize("gpu", list(Gpu))
def test_the_smallest_instance_of_a_class_holds_a_pod_for_each_gpu_beside_its_own(gpu: Gpu) -> None:
    smallest = GPUS[gpu]["smallest"]
    cpus, memory = left(smallest["cpus"], smallest["memoryGib"], ADDRESSES[smallest["type"]])
    both = containers(pod(gpu=gpu, checkpoint="a.ckpt"))
    before = both.pop("models")  # it ends before the engine, which asks for more
    asked = [item["resources"]["requests"] for item in both.values()]
    assert mebibytes(before["resources"]["requests"]["memory"]) < mebibytes(asked[1]["memory"])
    assert "nvidia.com/gpu" not in before["resources"]["limits"]
    assert sum(mebibytes(item["memory"]) for item in asked) * smallest["gpus"] <= memory
    assert sum(thousandths(item["cpu"]) for item in asked) * smallest["gpus"] <= cpus


def test_a_pod_goes_to_a_node_with_its_gpu_and_takes_one() -> None:
    spec = pod(gpu="g6e")
    assert spec["nodeSelector"] == {"darkroom.dev/gpu": "g6e"}
    assert [item["key"] for item in spec["tolerations"]] == ["nvidia.com/gpu"]
    taken = [item["resources"]["limits"].get("nvidia.com/gpu") for item in containers(spec).values()]
    assert sorted(filter(None, taken)) == [1]
    assert spec["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"


@pytest.mark.parametrize("capacity", ["spot", "on-demand"])
def test_a_pod_may_be_for_one_kind_of_capacity(capacity: str) -> None:
    assert pod(capacity=capacity)["nodeSelector"]["karpenter.sh/capacity-type"] == capacity


def test_a_spot_notice_is_not_held_up() -> None:
    annotations = one(rendered(), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert "karpenter.sh/do-not-disrupt" not in annotations


def test_the_engine_s_resources_may_be_others() -> None:
    spec = pod(resources={"cpu": 7, "memory": "30Gi", "outputsGib": 5})
    assert containers(spec)["engine"]["resources"]["requests"].items() >= {("cpu", "7"), ("memory", "30Gi")}
    assert next(item for item in spec["volumes"] if item["name"] == "data")["emptyDir"]["sizeLimit"] == "5Gi"


# Scaling


@pytest.mark.parametrize(
    ("within", "picture", "length"), [(60, 9, 6), (60, 60, 1), (1, 9, 1), (60, 2.5, 24), (43200, 0.01, 4320000)]
)
def test_a_pod_s_share_of_the_queue_is_what_it_begins_in_time(within: int, picture: float, length: int) -> None:
    assert trigger(scaled(startWithinSeconds=within, secondsPerPicture=picture))["queueLength"] == str(length)


@pytest.mark.parametrize("gpu", list(Gpu))
def test_how_long_a_picture_takes_is_the_gpu_s_unless_it_is_said(gpu: Gpu) -> None:
    length = trigger(one(rendered(gpu=gpu), "ScaledObject")["spec"])["queueLength"]
    assert length == str(max(1, math.floor(60 / GPUS[gpu]["secondsPerPicture"])))


def test_one_message_is_enough_for_the_first_pod_and_jobs_in_hand_keep_theirs() -> None:
    found = trigger(scaled())
    assert (found["activationQueueLength"], found["scaleOnInFlight"]) == ("0", "true")
    assert all(isinstance(value, str) for value in found.values())  # KEDA refuses anything else


def test_the_words_of_the_description_are_keda_s_numbers() -> None:
    spec = scaled(minPods=1, maxPods=7, cooldownSeconds=900, pollingSeconds=2)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 7)
    assert (spec["cooldownPeriod"], spec["pollingInterval"]) == (900, 2)


def test_pods_are_added_at_once_and_taken_away_gently() -> None:
    behavior = scaled(maxPods=20)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["policies"] == [{"type": "Pods", "value": 20, "periodSeconds": 15}]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior["scaleDown"]["policies"] == [{"type": "Percent", "value": 50, "periodSeconds": 60}]


@pytest.mark.parametrize(("cooldown", "window"), [(0, 60), (300, 300), (86400, 3600)])
def test_the_autoscaler_looks_back_as_far_as_it_may(cooldown: int, window: int) -> None:
    behavior = scaled(cooldownSeconds=cooldown)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == window


def test_an_outage_of_sqs_starts_no_gpu() -> None:
    assert "fallback" not in scaled()


def test_keda_scales_the_pods_with_its_own_identity() -> None:
    objects = rendered()
    spec = one(objects, "ScaledObject")["spec"]
    assert spec["scaleTargetRef"] == {"name": one(objects, "Deployment")["metadata"]["name"]}
    assert spec["triggers"][0]["authenticationRef"] == {"name": "aws"}
