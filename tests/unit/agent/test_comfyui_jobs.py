"""Workflows on ComfyUI, from the message to the pictures and the notification."""

import base64
from typing import Any

import httpx
import pytest

from darkroom_contract.errors import JobErrorCode
from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import Cloud, guidance_message, picture, workflow, workflow_with_input

INPUT = picture(colour="orange")


def run(cloud: Cloud, content: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """The notification of a workflow."""
    cloud.send(guidance_message(content, "pipeline", **metadata))
    return cloud.notification()


def test_a_workflow_ends_in_a_picture_and_a_notification(comfyui_cloud: Cloud) -> None:
    notification = run(comfyui_cloud, workflow(), context={"a": 1})
    assert notification["status"] == "completed"
    assert notification["context"] == {"a": 1}
    [url] = notification["image_url"]
    assert comfyui_cloud.read(url)[0].startswith(b"\x89PNG")
    assert comfyui_cloud.read_json(notification["output_url"]) == {"code": 200}


def test_a_workflow_under_another_tasks_name_is_run_too(comfyui_cloud: Cloud) -> None:
    """The AWS guidance's API refuses `pipeline`."""
    comfyui_cloud.send(guidance_message(workflow(), "text-to-image"))
    assert comfyui_cloud.notification()["status"] == "completed"


def test_previews_are_delivered_when_nothing_else_is_saved(comfyui_cloud: Cloud) -> None:
    nodes = workflow()
    nodes["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    assert len(run(comfyui_cloud, nodes)["image_url"]) == 1
    nodes["10"] = workflow()["9"]
    assert len(run(comfyui_cloud, nodes)["image_url"]) == 1


@pytest.mark.parametrize("source", ["https", "s3", "data", "file"])
def test_an_input_is_brought_to_comfyui_from_wherever_it_is(
    comfyui_cloud: Cloud, comfyui: str, host: PicturesHost, source: str
) -> None:
    comfyui_cloud.s3.put_object(Bucket=comfyui_cloud.inputs, Key="folder/in.png", Body=INPUT)
    httpx.post(f"{comfyui}/upload/image", files={"image": ("in.png", INPUT, "image/png")}).raise_for_status()
    image = {
        "https": host.serves("/in.png", INPUT),
        "s3": f"s3://{comfyui_cloud.inputs}/folder/in.png",
        "data": f"data:image/png;base64,{base64.b64encode(INPUT).decode()}",
        "file": "in.png",
    }[source]
    assert run(comfyui_cloud, workflow_with_input(image))["status"] == "completed"


def test_the_error_of_a_node_names_it(comfyui_cloud: Cloud) -> None:
    nodes = workflow()
    nodes["12"] = {"class_type": "DemoFail", "inputs": {"images": ["8", 0], "message": "the node broke"}}
    nodes["9"]["inputs"]["images"] = ["12", 0]
    notification = run(comfyui_cloud, nodes)
    comfyui_cloud.wait_until_empty()
    assert notification["status"] == "failed"
    assert notification["error"] == {
        "code": JobErrorCode.ENGINE_FAILED,
        "message": "DemoFail 12: the node broke",
        "node": "12",
        "retryable": False,
    }
    assert comfyui_cloud.read_json(notification["output_url"]) == {"code": 500}


def test_a_workflow_that_comfyui_calls_invalid_fails_at_once_and_names_the_input(comfyui_cloud: Cloud) -> None:
    nodes = workflow()
    nodes["3"]["inputs"]["sampler_name"] = "none"
    error = run(comfyui_cloud, nodes)["error"]
    comfyui_cloud.wait_until_empty()
    assert error["code"] == JobErrorCode.ENGINE_REFUSED
    assert error["node"] == "3"
    assert error["field"] == "content.3.inputs.sampler_name"
    assert "none" in error["message"]


def test_a_workflow_that_saves_nothing_is_refused_by_comfyui(comfyui_cloud: Cloud) -> None:
    nodes = workflow()
    del nodes["9"]
    assert run(comfyui_cloud, nodes)["error"]["code"] == JobErrorCode.ENGINE_REFUSED


def test_a_content_that_is_no_workflow_fails_at_once(comfyui_cloud: Cloud) -> None:
    error = run(comfyui_cloud, {"prompt": "a lighthouse"})["error"]
    assert error["code"] == JobErrorCode.INVALID_TASK
    assert error["field"] == "content"
    assert "workflow" in error["message"]


def test_an_input_that_cannot_be_had_is_named_by_its_node(comfyui_cloud: Cloud) -> None:
    error = run(comfyui_cloud, workflow_with_input(f"s3://{comfyui_cloud.inputs}/nothing.png"))["error"]
    assert error["code"] == JobErrorCode.INPUT_UNAVAILABLE
    assert error["field"] == "content.10.inputs.image"
