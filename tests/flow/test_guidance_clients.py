"""Clients of the AWS guidance go on working: their requests, the answers they know, and its notifications."""

import base64
import io
import json
import re
import uuid
from typing import Any

import pytest
from PIL import Image

from darkroom_contract.names import Bucket
from tests import workflows
from tests.flow.flow import Flow

CHECKPOINT = "v1-5-pruned-emaonly.safetensors"


def picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def workflow(text: str) -> dict[str, Any]:
    """A ComfyUI workflow in API format."""
    return workflows.text_to_image(text, width=256, height=128, steps=2)


def text_to_image() -> dict[str, Any]:
    return {"prompt": "http of the sea", "steps": 2, "width": 128, "height": 64, "seed": 7}


TASKS = {
    "text-to-image": ("webui", text_to_image()),
    "image-to-image": ("webui", {**text_to_image(), "init_images": [picture()], "denoising_strength": 0.5}),
    "extra-single-image": ("webui", {"image": picture(), "upscaling_resize": 2, "upscaler_1": "Lanczos"}),
    "extra-batch-image": (
        "webui",
        {"imageList": [{"data": picture(), "name": "a"}], "upscaling_resize": 2, "upscaler_1": "Lanczos"},
    ),
    "extra-batch-images": (
        "webui",
        {"imageList": [{"data": picture(), "name": "a"}], "upscaling_resize": 2, "upscaler_1": "Lanczos"},
    ),
    "pipeline": ("comfyui", workflow("a lighthouse")),
}


@pytest.mark.parametrize("tasktype", TASKS)
def test_a_v1alpha2_task_sent_twice_with_one_id_gives_two_pictures_and_two_notifications(
    flow: Flow, tasktype: str
) -> None:
    runtime, content = TASKS[tasktype]
    label, prefix = f"id-{uuid.uuid4().hex}", f"out/{uuid.uuid4().hex}"
    metadata = {"id": label, "runtime": runtime, "tasktype": tasktype, "prefix": prefix, "context": {"user": [1, "ä"]}}
    for _ in range(2):
        answer = flow.post("v1alpha2", {"task": {"metadata": metadata, "content": content}})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "id": label,
            "runtime": runtime,
            "output_location": f"s3://{flow.stack.bucket(Bucket.OUTPUTS)}/{prefix}/{label}",
        }
    notifications = flow.notifications(2, lambda it: it["id"] == label)
    for notification in notifications:
        assert notification["runtime"] == runtime
        assert notification["result"] is True
        assert notification["status"] == "completed"
        assert notification["context"] == {"user": [1, "ä"]}
        assert all(flow.picture(url).size[0] > 0 for url in notification["image_url"])
        assert notification["image_url"], notification
        folder = re.escape(f"s3://{flow.stack.bucket(Bucket.OUTPUTS)}/{prefix}/{label}/{label}")
        assert all(re.fullmatch(folder + r"-[0-9a-f]{4}-[0-9]+\.png", url) for url in notification["image_url"])
        assert re.fullmatch(folder + r"-[0-9a-f]{4}\.out", notification["output_url"])
        response = flow.json_object(notification["output_url"])
        if runtime == "comfyui":
            assert response == {"code": 200}
        else:
            assert response["parameters"]["id_task"] == label
            assert response["parameters"]["error_msg"] == ""
            assert response["images"] == [""]
    first, second = notifications
    assert first["job_id"] != second["job_id"]
    assert not set(first["image_url"]) & set(second["image_url"])


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image", "extra-single-image"])
def test_a_v1alpha1_request_finds_its_runtime_by_its_checkpoint(flow: Flow, task: str) -> None:
    label, folder = f"id-{uuid.uuid4().hex}", f"outputs-{uuid.uuid4().hex}"
    body = {
        **TASKS[task][1],
        "alwayson_scripts": {
            "task": task,
            "sd_model_checkpoint": CHECKPOINT,
            "id_task": label,
            "uid": "123",
            "save_dir": folder,
            "sd_vae": "None",
            "override_settings": {"CLIP_stop_at_last_layers": 1},
        },
    }
    for _ in range(2):
        answer = flow.post("v1alpha1", body)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "id_task": label,
            "sd_model_checkpoint": CHECKPOINT,
            "output_location": f"s3://{flow.stack.bucket(Bucket.OUTPUTS)}/{folder}/{label}",
        }
    for notification in flow.notifications(2, lambda it: it["id"] == label):
        assert notification["runtime"] == "webui"
        assert notification["result"] is True
        assert flow.picture(notification["image_url"][0]).size[0] == 128


def test_a_message_that_a_client_publishes_to_the_topic_itself_is_run(flow: Flow) -> None:
    label = f"id-{uuid.uuid4().hex}"
    metadata = {"id": label, "runtime": "webui", "tasktype": "text-to-image", "prefix": "direct", "context": {}}
    flow.sns.publish(
        TopicArn=flow.stack.names.topic_arn(flow.stack.names.prompt_topic),
        Message=json.dumps({"metadata": metadata, "content": text_to_image()}),
        MessageAttributes={"runtime": {"DataType": "String", "StringValue": "webui"}},
    )
    (notification,) = flow.notifications(1, lambda it: it["id"] == label)
    assert notification["result"] is True
    assert flow.picture(notification["image_url"][0]).size == (128, 64)


def test_a_v1alpha2_client_may_call_with_slashes_around_the_version(flow: Flow) -> None:
    label = f"id-{uuid.uuid4().hex}"
    metadata = {"id": label, "runtime": "webui", "tasktype": "text-to-image", "prefix": "slashes"}
    answer = flow.post("/v1alpha2/", {"task": {"metadata": metadata, "content": text_to_image()}})
    assert answer.status_code == 200, answer.text
    assert flow.notifications(1, lambda it: it["id"] == label)
