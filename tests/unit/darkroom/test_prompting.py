"""A prompt's words, picture and workflow become a request."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from darkroom.prompting import build_request, output_format
from darkroom.trouble import UsageError
from darkroom_contract.types import OutputFormat, PictureFormat, Task
from darkroom_contract.v1 import SubmitRequest


def build(
    text: str = "a cat",
    *,
    image: Path | None = None,
    workflow: Path | str | None = None,
    inputs: Sequence[str] = (),
    seed: int | None = None,
    steps: int | None = None,
) -> SubmitRequest:
    named = str(workflow) if workflow else None
    settings = {"seed": seed, "steps": steps}
    return build_request("a", "runtime", text, image=image, workflow=named, inputs=inputs, settings=settings)


def content(request: SubmitRequest) -> dict[str, Any]:
    assert request.content is not None
    return request.content


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "start.PNG").write_bytes(b"picture")
    return tmp_path / "start.PNG"


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "{{prompt}}, oil on canvas", "clip": ["3", 1]}},
    }
    (tmp_path / "workflow.json").write_text(json.dumps(graph))
    return tmp_path / "workflow.json"


def test_words_alone_are_text_to_image() -> None:
    request = build()
    assert (request.id, request.runtime, request.task) == ("a", "runtime", Task.TEXT_TO_IMAGE)
    assert request.content == {"prompt": "a cat", "steps": 20, "width": 512, "height": 512}
    assert content(build(seed=0))["seed"] == 0


def test_a_format_may_be_asked_for_with_or_without_a_quality() -> None:
    assert output_format(PictureFormat.WEBP, 80) == OutputFormat(format=PictureFormat.WEBP, quality=80)
    assert output_format(PictureFormat.PNG, None) == OutputFormat(format=PictureFormat.PNG)
    assert output_format(None, None) is None


@pytest.mark.parametrize("picture_format", [None, PictureFormat.PNG])
def test_a_quality_of_nothing_is_refused(picture_format: PictureFormat | None) -> None:
    with pytest.raises(UsageError, match="--quality goes with"):
        output_format(picture_format, 80)


@pytest.mark.parametrize(
    ("size", "width", "height"), [((64, 64), 512, 512), ((1000, 500), 728, 360), ((3, 9), 296, 888)]
)
def test_words_with_a_picture_are_image_to_image_in_its_shape(
    tmp_path: Path, size: tuple[int, int], width: int, height: int
) -> None:
    path = tmp_path / "start.png"
    Image.new("RGB", size).save(path)
    request = build(image=path)
    assert request.task is Task.IMAGE_TO_IMAGE
    assert content(request)["init_images"] == [base64.b64encode(path.read_bytes()).decode()]
    assert (content(request)["width"], content(request)["height"]) == (width, height)


def test_what_is_no_picture_is_refused(image: Path) -> None:
    with pytest.raises(UsageError, match=r"start.PNG: it is no picture"):
        build(image=image)


def test_a_workflow_gets_the_words_and_the_picture_in_their_places(workflow: Path, image: Path) -> None:
    request = build('"quoted" {}', workflow=workflow, image=image)
    assert request.task is Task.PIPELINE
    nodes = content(request)
    assert nodes["2"]["inputs"]["text"] == '"quoted" {}, oil on canvas'
    assert nodes["2"]["inputs"]["clip"] == ["3", 1]
    assert nodes["1"]["inputs"]["image"] == "data:image/png;base64," + base64.b64encode(b"picture").decode()
    without = content(build(workflow=workflow))
    assert without["1"]["inputs"]["image"] == "example.png"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "workflow.json: "),
        ('{"nodes": []}', "not a workflow in API format"),
        ('{"1": {"class_type": "KSampler", "inputs": {"seed": 1}}}', r"no place for what is given: no \{\{prompt\}\}"),
    ],
)
def test_a_workflow_that_cannot_be_used_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "workflow.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        build(workflow=tmp_path / "workflow.json")


def test_a_workflow_takes_the_seed_and_the_steps_where_it_has_them(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    inputs = {"seed": 1, "steps": 20, "text": "{{prompt}}"}
    path.write_text(json.dumps({"1": {"class_type": "KSampler", "inputs": inputs}}))
    nodes = content(build(workflow=path, seed=7, steps=4))
    assert nodes["1"]["inputs"] == {"seed": 7, "steps": 4, "text": "a cat"}


def test_what_a_workflow_has_no_place_for_is_refused(tmp_path: Path, image: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_text('{"1": {"class_type": "Text", "inputs": {"text": "{{prompt}}"}}}')
    with pytest.raises(UsageError, match="no LoadImage, seed, steps"):
        build(workflow=path, image=image, seed=7, steps=4)


def test_what_an_option_says_no_input_says_again(image: Path) -> None:
    for name in ("seed", "steps", "image"):
        with pytest.raises(UsageError, match=f"--input {name}=… says again what --{name}"):
            build(workflow="w", image=image, seed=1, steps=2, inputs=[f"{name}=3"])


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused_where_a_prompt_needs_one(workflow: Path, text: str) -> None:
    for given in (None, workflow):
        with pytest.raises(UsageError, match="the text is empty: say what to draw"):
            build(text, workflow=given)


def test_a_picture_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: "):
        build(image=tmp_path)


def test_a_workflow_that_is_no_file_is_one_of_the_runtime_s(image: Path) -> None:
    request = build(workflow="portrait", image=image, seed=7, inputs=["steps=30", "cfg=7.5", "tiled=true", "lora=a=b"])
    assert (request.task, request.workflow, request.content) == (Task.PIPELINE, "portrait", None)
    picture = "data:image/png;base64," + base64.b64encode(b"picture").decode()
    said = {"prompt": "a cat", "seed": 7, "image": picture, "steps": 30, "cfg": 7.5, "tiled": True, "lora": "a=b"}
    assert request.inputs == said


def test_an_input_is_a_text_unless_it_is_a_number_or_a_truth() -> None:
    inputs = ["a=null", "b=[1]", 'c="30"', "d=", "e={x"]
    assert build("", workflow="w", inputs=inputs).inputs == {"a": "null", "b": "[1]", "c": "30", "d": "", "e": "{x"}
    assert build("", workflow="w", inputs=["prompt=a dog"]).inputs == {"prompt": "a dog"}
    assert build("", workflow="w", inputs=["a=NaN", "b=-Infinity", "c=1e999"]).inputs == {
        "a": "NaN",
        "b": "-Infinity",
        "c": "1e999",
    }


@pytest.mark.parametrize(
    ("workflow", "inputs", "said"),
    [
        ("portrait", ["steps"], "--input steps: write it as name=value"),
        (None, ["steps=3"], "--input goes with --workflow and the name"),
        (
            "there-is-none.json",
            [],
            "^there-is-none.json: there is no such file; a workflow of the runtime's has no .json",
        ),
        ("portrait", ["prompt=a dog"], "--input prompt=… says again what the text or another --input says: leave one"),
        ("portrait", ["cfg=1", "cfg=2"], "--input cfg=… says again"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(workflow: str | None, inputs: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(workflow=workflow, inputs=inputs)
