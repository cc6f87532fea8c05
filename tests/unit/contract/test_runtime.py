"""The description of a runtime: what it takes, and what it says of what it does not take."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from darkroom_contract.engines import OWN_OPTIONS, OWN_PREFIXES, OWN_VARIABLES
from darkroom_contract.gpus import Capacity, Gpu
from darkroom_contract.runtime import Runtime, Scaling
from darkroom_contract.types import Engine

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "runtime.md").read_text()
TEMPLATES = ROOT / "apps" / "sd-runtime" / "templates"
IMAGE = f"registry.example.com/comfyui@sha256:{'0' * 64}"


def described(**fields: Any) -> Runtime:
    return Runtime.model_validate({"engine": "sdwebui"} | fields)


def refusals(**fields: Any) -> str:
    """What is wrong with a runtime, each with its place."""
    with pytest.raises(ValidationError) as refused:
        described(**fields)
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in refused.value.errors())


def test_a_runtime_needs_its_engine_alone() -> None:
    runtime = described()
    assert (runtime.gpu, runtime.capacity) == (Gpu.G5, Capacity.ANY)
    assert (runtime.scaling.min_pods, runtime.scaling.max_pods) == (0, 4)
    assert [field for field, info in Runtime.model_fields.items() if info.is_required()] == ["engine"]


@pytest.mark.parametrize(
    "fields",
    [
        {"checkpoint": "sdxl/turbo v1.0 (fp16).safetensors"},
        {"args": ["--xformers", "--no-half-vae", "--api-log"]},
        {"env": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "_x1": ""}},
        {"loras": "sdxl/loras", "image": IMAGE, "warmup": {"prompt": "a cat", "steps": 1}},
        {"inputHosts": ["pictures.example.com", "*.example.org"]},
        {"resources": {"cpu": 4, "memory": "16Gi", "outputsGib": 20}},
        {"scaling": {"minPods": 4, "maxPods": 4, "secondsPerPicture": 0.5}},
        {"engine": "comfyui", "customNodes": "custom_nodes/video", "allowedNodes": ["KSampler (Efficient)", "Load*"]},
        {"engine": "comfyui", "deniedNodes": ["Power|Lora"], "args": ["--fast", "fp16_accumulation", "-", "--"]},
    ],
)
def test_a_runtime_may_be_described_so(fields: dict[str, Any]) -> None:
    described(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpu": "a100"}, "gpu: Input should be 'g4dn', 'g5', 'g6', 'g6e', 'p4d' or 'p5'"),
        ({"capacity": "reserved"}, "capacity: Input should be 'any', 'spot' or 'on-demand'"),
        ({"scaling": {"minPods": 5}}, "scaling: minPods: 5 are more than maxPods, which is 4"),
        ({"scaling": {"maxPods": 0}}, "scaling.maxPods: "),
        ({"scaling": {"pollingSeconds": 0}}, "scaling.pollingSeconds: "),
        ({"scaling": {"secondsPerPicture": 1000}}, "scaling.secondsPerPicture: a usual job would not end within"),
        ({"engine": "comfyui", "dynamicCheckpoint": True}, "dynamicCheckpoint: Value error, it is for sdwebui"),
        ({"customNodes": "custom_nodes/video"}, "customNodes: Value error, it is for comfyui"),
        ({"allowedNodes": ["*"]}, "allowedNodes: Value error, it is for comfyui"),
        ({"deniedNodes": ["*"]}, "deniedNodes: Value error, it is for comfyui"),
        ({"engine": "comfyui", "deniedNodes": ["a,b"]}, "deniedNodes.0: Value error, it has to be the name of a node"),
        ({"checkpoint": "../secret"}, "checkpoint: Value error, it has to be a file in the folder checkpoints/"),
        ({"checkpoint": "/models/a.safetensors"}, "checkpoint: Value error, it has to be a file in the folder"),
        (
            {"checkpoint": "checkpoints/sdxl/a.ckpt"},
            "checkpoint: Value error, name it as it is in checkpoints/: sdxl/a.ckpt",
        ),
        ({"checkpoint": "sd_xl_base_1.0"}, "and one of the endings .safetensors, .sft, .ckpt, .pt, "),
        ({"checkpoint": "sdxl/.ckpt"}, "checkpoint: Value error, it has to be a file in the folder"),
        ({"loras": "loras/"}, "loras: Value error, it has to be a folder in the models volume"),
        ({"inputHosts": ["https://example.com"]}, "inputHosts.0: Value error, it has to be a host"),
        ({"resources": {"cpu": "4 cores"}}, "resources.cpu: Value error, it has to be a number of cores"),
        ({"resources": {"cpu": 0}}, "resources.cpu: Value error, it has to be a number of cores"),
        ({"resources": {"memory": "16GB"}}, "resources.memory: Value error, it has to be an amount of memory"),
        ({"image": "registry.example.com/webui:latest"}, "image: Value error, it has to be an image by its digest"),
        ({"env": {"1A": "", "B-C": ""}}, "letters, digits and underscores alone: 1A, B-C"),
        ({"env": {"A": "x" * 128 * 1024}}, "env: Value error, A is too long"),
        ({"warmup": {"prompt": "x" * 128 * 1024}}, "warmup: Value error, WARMUP is too long"),
        ({"warmup": []}, "warmup: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(fields: dict[str, Any], said: str) -> None:
    assert said in refusals(**fields)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    said = refusals(gpu="x", customNodes="nodes", args=["--port", "1"], env={"HOME": "/"}, scaling={"minPods": 9})
    assert [field for field in ("gpu", "customNodes", "args", "env", "scaling") if f"{field}: " not in said] == []


@pytest.mark.parametrize(
    ("engine", "option"), [(engine, option) for engine in Engine for option in OWN_OPTIONS[engine]]
)
def test_an_option_of_darkroom_is_not_taken_from_it(engine: Engine, option: str) -> None:
    for argument in (option, f"{option}=x", option[:-1]):
        assert f"leave out {argument.partition('=')[0]}" in refusals(engine=engine, args=["--verbose", argument])


@pytest.mark.parametrize("name", [*OWN_VARIABLES, *(f"{prefix}REGION" for prefix in OWN_PREFIXES)])
def test_a_variable_of_darkroom_is_not_taken_from_it(name: str) -> None:
    assert f"leave out {name}" in refusals(env={"FINE": "", name: "x"})


@pytest.mark.parametrize("engine", Engine)
def test_what_the_chart_gives_the_engine_is_darkrooms(engine: Engine) -> None:
    _, _, arguments = (TEMPLATES / "_engine.tpl").read_text().partition(f'define "engine.arguments.{engine}"')
    options = re.findall(r"--[a-z][a-z-]+", arguments.partition("{{- end }}\n\n")[0])
    assert "--listen" in options
    assert set(options) <= set(OWN_OPTIONS[engine])
    _, _, container = (TEMPLATES / "deployment.yaml").read_text().partition("- name: engine\n")
    variables = re.findall(r"- name: ([A-Z_]+)$", container.partition("\n      containers:")[0], re.MULTILINE)
    assert "HOME" in variables
    assert set(variables) <= set(OWN_VARIABLES)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_there_are_never_more_pods_at_least_than_at_most(least: int, most: int) -> None:
    fields = {"minPods": least, "maxPods": most}
    if least <= most:
        assert Scaling.model_validate(fields).min_pods == least
    else:
        with pytest.raises(ValidationError, match="more than maxPods"):
            Scaling.model_validate(fields)


def test_spot_nodes_do_for_whom_any_will_do_and_nobody_gets_what_it_did_not_ask_for() -> None:
    assert Capacity.ANY.meets(Capacity.SPOT)
    assert Capacity.SPOT.meets(Capacity.ANY)
    assert not Capacity.SPOT.meets(Capacity.ON_DEMAND)


def test_the_page_has_every_field_with_its_default() -> None:
    of_page = dict(re.findall(r"^\| `([\w.]+)` \| (?:`([^`]*)`)?", PAGE, re.MULTILINE))
    assert of_page == dict(_fields(Runtime))


def _fields(model: type[Any], before: str = "") -> list[tuple[str, str]]:
    """Each field by its name in YAML, with its default as YAML has it; none for what is required."""
    fields: list[tuple[str, str]] = []
    for info in model.model_fields.values():
        name, default = f"{before}{info.alias}", info.default
        if hasattr(default, "model_fields_set"):
            fields += _fields(type(default), f"{name}.")
        else:
            fields.append((name, "" if info.is_required() else _yaml(default)))
    return fields


def _yaml(value: Any) -> str:
    return json.dumps(value).strip('"')
