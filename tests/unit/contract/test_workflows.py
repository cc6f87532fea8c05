"""Named workflows: what a file may say, and what a prompt makes of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from darkroom_contract.job import FieldError
from darkroom_contract.runtime import Runtime
from darkroom_contract.workflows import (
    MAX_WHOLE_NUMBER,
    MAX_WORKFLOW_BYTES,
    MAX_WORKFLOWS_BYTES,
    InputType,
    Workflow,
    check_sizes,
    refused_nodes,
)

GRAPH: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": 1, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "latent_image": ["1", 0]},
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
    "9": {"class_type": "PreviewAny", "inputs": {"tiled": False}},
    "10": {"class_type": "Nothing"},
}
INPUTS: dict[str, Any] = {
    "prompt": {"node": "6", "field": "text", "type": "string"},
    "steps": {"node": "3", "field": "steps", "type": "integer", "default": 25, "minimum": 1, "maximum": 60},
    "seed": {"node": "3", "field": "seed", "type": "integer"},
    "cfg": {"node": "3", "field": "cfg", "type": "number", "default": 7, "minimum": 0},
    "sampler": {"node": "3", "field": "sampler_name", "type": "string", "default": "euler", "enum": ["euler", "ddim"]},
    "tiled": {"node": "9", "field": "tiled", "type": "boolean", "default": False},
    "photo": {"node": "1", "field": "image", "type": "image", "default": "example.png"},
}


def workflow(inputs: dict[str, Any] = INPUTS, graph: dict[str, Any] = GRAPH) -> Workflow:
    return Workflow.model_validate({"graph": graph, "inputs": inputs})


WORKFLOW = workflow()


def refusal(**fields: Any) -> str:
    """What is said of the workflow with one input changed in these fields, or another graph."""
    graph = fields.pop("graph", GRAPH)
    name = fields.pop("name", "steps")
    with pytest.raises(ValidationError) as refused:
        workflow(INPUTS | {name: INPUTS.get(name, {}) | fields}, graph)
    (error,) = refused.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def test_what_a_prompt_gives_is_filled_in_and_the_rest_is_as_by_default() -> None:
    filled: dict[str, Any] = WORKFLOW.filled({"prompt": "a cat", "seed": 7, "photo": "https://example.com/a.png"})
    assert filled["6"]["inputs"] == {"text": "a cat", "clip": ["4", 1]}
    assert filled["3"]["inputs"] | {"latent_image": 0} == {
        "seed": 7,
        "steps": 25,
        "cfg": 7,
        "sampler_name": "euler",
        "latent_image": 0,
    }
    assert filled["1"]["inputs"]["image"] == "https://example.com/a.png"
    assert repr(WORKFLOW) == repr(workflow()), "the workflow itself is never filled in"


@pytest.mark.parametrize("given_seed", [{}, {"seed": -1}, {"seed": None}])
def test_a_prompt_without_a_seed_gets_one_of_its_own(given_seed: dict[str, Any]) -> None:
    seeds = {json.dumps(WORKFLOW.filled({"prompt": "a", **given_seed})["3"]) for _ in range(8)}
    assert len(seeds) > 1


@given(st.integers(0, 2**40), st.integers(0, 3))
def test_a_seed_is_chosen_within_its_limits(least: int, more: int) -> None:
    described = INPUTS["seed"] | {"minimum": least, "maximum": least + more}
    filled: dict[str, Any] = workflow({"seed": described}).filled({})
    assert least <= filled["3"]["inputs"]["seed"] <= least + more


def test_a_seed_with_a_default_is_that() -> None:
    filled: dict[str, Any] = workflow({"seed": INPUTS["seed"] | {"default": 5}}).filled({})
    assert filled["3"]["inputs"]["seed"] == 5


@pytest.mark.parametrize(
    ("inputs", "field", "said"),
    [
        ({}, "inputs.prompt", "inputs.prompt is missing: it must be a text"),
        ({"prompt": None}, "inputs.prompt", "is missing"),
        ({"prompt": 1}, "inputs.prompt", "inputs.prompt must be a text"),
        ({"prompt": "a", "stepz": 1}, "inputs.stepz", "no such input; there are prompt, steps, seed, cfg, sampler"),
        ({"prompt": "a", "steps": 61}, "inputs.steps", "inputs.steps must be a whole number from 1 to 60"),
        ({"prompt": "a", "steps": 0}, "inputs.steps", "from 1 to 60"),
        ({"prompt": "a", "steps": 2.5}, "inputs.steps", "a whole number"),
        ({"prompt": "a", "steps": "20"}, "inputs.steps", "a whole number"),
        ({"prompt": "a", "steps": True}, "inputs.steps", "a whole number"),
        ({"prompt": "a", "cfg": -0.5}, "inputs.cfg", "inputs.cfg must be a number, 0 or more"),
        ({"prompt": "a", "cfg": [7]}, "inputs.cfg", "a number"),
        ({"prompt": "a", "sampler": "lms"}, "inputs.sampler", 'must be one of "euler", "ddim"'),
        ({"prompt": "a", "tiled": 1}, "inputs.tiled", "true or false"),
        ({"prompt": "a", "photo": {}}, "inputs.photo", "a picture: an https:// or s3:// URL"),
        ({"prompt": "a", "seed": 0.5}, "inputs.seed", "a whole number"),
    ],
)
def test_a_wrong_input_is_named_with_what_would_be_right(inputs: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(FieldError) as refused:
        WORKFLOW.filled(inputs)
    assert refused.value.field == field
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"node": "5"}, "inputs.steps.node: the graph has no node 5; there are 1, 3, 4, 6, 9, 10"),
        ({"node": 3}, "inputs.steps.node: Input should be a valid string"),
        ({"field": "step"}, "inputs.steps.field: the node 3 has no such input; there are seed, steps"),
        ({"node": "10"}, "inputs.steps.field: the node 10 has no such input; it has none"),
        ({"field": "latent_image"}, "inputs.steps.field: it is linked to another node"),
        ({"type": "float"}, "inputs.steps.type: Input should be 'string', 'integer', 'number', 'boolean' or 'image'"),
        ({"default": 61}, "inputs.steps: default: it has to be a whole number from 1 to 60"),
        ({"default": "25"}, "inputs.steps: default: it has to be a whole number"),
        ({"minimum": 61}, "inputs.steps: minimum: it is more than the maximum, 60"),
        ({"minimum": 0.5}, "inputs.steps: minimum: it has to be a whole number"),
        ({"minimum": float("inf")}, "inputs.steps.minimum: Input should be a finite number"),
        ({"enum": []}, "inputs.steps.enum: "),
        ({"enum": [20, 90]}, "inputs.steps: enum[1]: it has to be a whole number from 1 to 60"),
        ({"enum": [20, 30]}, "inputs.steps: default: it has to be one of 20, 30"),
        ({"maxium": 60}, "inputs.steps.maxium: Extra inputs are not permitted"),
        (
            {"default": MAX_WHOLE_NUMBER + 1, "maximum": None},
            "inputs.steps.default: Value error, 9007199254740992 would",
        ),
        ({"name": "prompt", "minimum": 1}, "inputs.prompt: minimum: it is for numbers, and the type is string"),
        ({"name": "tiled", "enum": [True]}, "inputs.tiled: enum: it is for texts and numbers"),
        ({"name": "seed", "maximum": -1}, "inputs.seed: maximum: a seed is 0 or more"),
        ({"name": "photo", "type": "string"}, "inputs.photo.type: it has to be image, since the node opens a picture"),
        ({"name": "prompt", "type": "image"}, "inputs.prompt.type: it has to be another: the node opens no picture"),
        (
            {"type": "string", "default": None, "minimum": None, "maximum": None},
            "inputs.steps.type: the graph has 20 in its place, which is not a text: make it integer or number",
        ),
        (
            {"name": "cfg", "type": "integer"},
            "inputs.cfg.type: the graph has 7.5 in its place, which is not a whole number: make it number",
        ),
        ({"name": "tiled", "type": "string", "default": ""}, "inputs.tiled.type: the graph has false in its place"),
        (
            {"graph": GRAPH | {"8": {"class_type": "VAEDecode", "inputs": {"vae": ["44", 0]}}}},
            "graph.8.inputs.vae: the graph has no node 44 to link to; there are 1, 3",
        ),
        ({"name": "photo", "default": "../a.png"}, "graph.1.inputs.image: a file is named by its plain path"),
        ({"name": "again", **INPUTS["steps"]}, "inputs.steps: the input again is at the same place"),
        ({"name": "a b", **INPUTS["steps"]}, "inputs.a b.[key]: Value error, it has to be at most 64 letters"),
        ({"graph": {}}, "graph: a ComfyUI runtime takes a workflow in API format"),
        ({"graph": {"nodes": [], "links": []}}, "graph: this is the editor's file"),
        (
            {"graph": GRAPH | {"11": {"class_type": "A", "inputs": {"a": [2**53]}}}},
            "graph: Value error, 9007199254740992",
        ),
        (
            {"graph": GRAPH | {"11": {"class_type": "A", "inputs": {"a": "x" * MAX_WORKFLOW_BYTES}}}},
            "262144 are the most",
        ),
    ],
)
def test_a_workflow_that_could_not_be_run_is_refused(fields: dict[str, Any], said: str) -> None:
    assert said in refusal(**fields)


def test_lists_that_are_no_links_are_values_and_null_may_become_anything() -> None:
    values = {"pair": ["a", "b"], "points": [[1, 2]], "one": ["44"], "nothing": None}
    graph = GRAPH | {"11": {"class_type": "A", "inputs": values}}
    inputs = INPUTS | {"later": {"node": "11", "field": "nothing", "type": "number"}}
    assert workflow(inputs, graph).graph["11"] == graph["11"]


@pytest.mark.parametrize(
    ("allowed", "denied", "refused"),
    [
        ([], [], {}),
        (["*"], ["KSampler", "Load*"], {"1": "its deniedNodes have Load*", "3": "its deniedNodes have KSampler"}),
        (
            ["Load*", "KSampler", "CLIP*", "Check*", "Preview*"],
            [],
            {"10": "Nothing, which is none of its allowedNodes"},
        ),
        ([], ["ksampler"], {}),
    ],
)
def test_nodes_that_the_runtime_does_not_run_are_named(
    allowed: list[str], denied: list[str], refused: dict[str, str]
) -> None:
    runtime = Runtime.model_validate({"engine": "comfyui", "allowedNodes": allowed, "deniedNodes": denied})
    found = dict(refused_nodes({"portrait": WORKFLOW}, runtime))
    assert list(found) == [("workflows", "portrait", "graph", node, "class_type") for node in refused]
    for words, said in zip(found.values(), refused.values(), strict=True):
        assert said in words


def test_all_workflows_of_a_runtime_have_a_limit_together() -> None:
    node = {"class_type": "A", "inputs": {"a": "x" * (MAX_WORKFLOWS_BYTES // 3)}}
    large = workflow({}, {"1": node})
    check_sizes([large] * 2)
    with pytest.raises(ValueError, match="all of a runtime have"):
        check_sizes([large] * 3)


def floats(value: Any) -> Any:
    """The value as protobuf's Struct hands it over: in any order, with no number but floats."""
    if isinstance(value, dict):
        return {name: floats(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return [floats(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


_NUMBERS = st.integers(-MAX_WHOLE_NUMBER, MAX_WHOLE_NUMBER) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), _NUMBERS | st.booleans() | st.none()))
def test_a_workflow_is_the_same_after_its_way_through_crossplane_and_s3(fields: dict[str, Any]) -> None:
    before = workflow(INPUTS, GRAPH | {"20": {"class_type": "A", "inputs": fields}})
    sent = before.model_dump(mode="json", by_alias=True, exclude_none=True)
    through_crossplane = Workflow.model_validate(floats(sent))
    assert through_crossplane.to_json() == before.to_json()
    assert Workflow.model_validate_json(before.to_json()) == before


def test_every_type_has_a_value_that_is_of_no_other() -> None:
    values: dict[InputType, JsonValue] = {InputType.STRING: "a", InputType.NUMBER: 0.5, InputType.BOOLEAN: True}
    for type_, value in values.items():
        assert [other for other in values if other.is_of(value)] == [type_]


def test_a_field_of_the_content_is_known_by_its_input() -> None:
    assert WORKFLOW.input_at("content.1.inputs.image") == "inputs.photo"
    assert WORKFLOW.input_at("content.2.inputs.image") is None
