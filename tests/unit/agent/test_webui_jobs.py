"""Jobs on the web UI, from the message to the pictures and the notification."""

import base64
import json
from typing import Any

import httpx
import pytest

from darkroom_contract.errors import JobErrorCode
from darkroom_contract.v1 import JobStatus
from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import SMALL, Cloud, guidance_message, picture, running

PNG = base64.b64encode(picture()).decode()


@pytest.mark.parametrize(
    ("task", "content"),
    [
        ("text-to-image", SMALL),
        ("image-to-image", {**SMALL, "init_images": [PNG]}),
        ("image-to-image", {**SMALL, "init_images": [f"data:image/png;base64,{PNG}"], "mask": PNG}),
        ("extra-single-image", {"image": PNG, "upscaling_resize": 2, "upscaler_1": "Lanczos"}),
        ("extra-batch-images", {"imageList": [{"data": PNG, "name": "a.png"}], "upscaler_1": "Lanczos"}),
        ("extra-batch-image", {"imageList": [{"data": PNG, "name": "a.png"}], "upscaler_1": "Lanczos"}),
    ],
)
def test_every_task_of_the_web_ui_ends_in_a_picture_and_a_notification(
    webui_cloud: Cloud, task: str, content: dict[str, Any]
) -> None:
    job_id = webui_cloud.send(guidance_message(content, task, context={"user": [1, None]}))
    notification = webui_cloud.notification()
    webui_cloud.wait_until_empty()

    [url] = notification["image_url"]
    output = notification["output_url"]
    seconds = notification.pop("seconds")
    assert seconds.keys() == {"wait", "fetch", "generate", "upload", "total"}
    assert notification == {
        "runtime": "sdxl",
        "id": "job-1",
        "result": True,
        "status": "completed",
        "image_url": [url],
        "output_url": output,
        "context": {"user": [1, None]},
        "job_id": job_id,
        "tenant": "default",
    }
    data, content_type = webui_cloud.read(url)
    assert data.startswith(b"\x89PNG")
    assert content_type == "image/png"
    stem = f"s3://{webui_cloud.outputs}/team/job-1/job-1-"
    assert url.startswith(stem)
    assert output == url.removesuffix("-1.png") + ".out"
    assert len(output) == len(stem) + len("abcd.out")


def test_every_picture_of_a_batch_is_saved_under_its_number(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message({**SMALL, "batch_size": 3}))
    urls = webui_cloud.notification()["image_url"]
    assert [url.rpartition("-")[2] for url in urls] == ["1.png", "2.png", "3.png"]
    assert len({webui_cloud.read(url)[0] for url in urls}) == 3


def test_the_response_of_a_generation_has_the_guidances_form(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message({**SMALL, "batch_size": 2}))
    response = webui_cloud.read_json(webui_cloud.notification()["output_url"])
    parameters = response.pop("parameters")
    assert response == {"images": [""], "info": ""}
    assert parameters["id_task"] == "job-1"
    assert parameters["image_seed"] == "7,8"
    assert parameters["error_msg"] == ""
    assert parameters["prompt"] == SMALL["prompt"]


def test_the_response_of_an_upscale_has_the_guidances_form(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message({"image": PNG, "upscaler_1": "Lanczos"}, "extra-single-image"))
    parameters = webui_cloud.read_json(webui_cloud.notification()["output_url"])["parameters"]
    assert parameters.keys() == {"html_info", "id_task", "error_msg"}


def test_the_result_is_recorded(webui_cloud: Cloud) -> None:
    job_id = webui_cloud.send(guidance_message(SMALL))
    notification = webui_cloud.notification()
    result = webui_cloud.store.result("default", job_id)
    assert result is not None
    assert result.status is JobStatus.COMPLETED
    assert list(result.images) == notification["image_url"]
    assert result.output == notification["output_url"]
    assert result.starts == 1
    assert result.seconds.keys() == {"wait", "fetch", "generate", "upload", "total"}


def test_the_notification_can_be_filtered_by_its_attributes(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message(SMALL))
    attributes = webui_cloud._next(webui_cloud.result_queue)["MessageAttributes"]
    values = {name: value["StringValue"] for name, value in attributes.items()}
    assert values == {"runtime": "sdxl", "status": "completed", "tenant": "default"}


@pytest.mark.parametrize("prompt", ["https://pictures.test/a.png", "http as a work of art", "s3://x/y", "data:,x"])
def test_a_prompt_that_looks_like_a_url_is_a_prompt(webui_cloud: Cloud, host: PicturesHost, prompt: str) -> None:
    asked = len(host.requests)
    webui_cloud.send(guidance_message({**SMALL, "prompt": prompt}))
    response = webui_cloud.read_json(webui_cloud.notification()["output_url"])
    assert response["parameters"]["prompt"] == prompt
    assert len(host.requests) == asked


def test_an_input_is_fetched_over_https(webui_cloud: Cloud, host: PicturesHost) -> None:
    webui_cloud.send(guidance_message({**SMALL, "init_images": [host.url("/a.png")]}, "image-to-image"))
    assert webui_cloud.notification()["status"] == "completed"
    assert host.requests[-1] == "/a.png"


def failure(cloud: Cloud) -> dict[str, Any]:
    """The error of the next notification, which has to be that of a failed job, and whose message has to be gone."""
    notification = cloud.notification()
    assert notification["status"] == "failed"
    assert notification["result"] is False
    assert notification["image_url"] == []
    cloud.wait_until_empty()
    assert cloud.count(cloud.dead_letter_queue) == 0
    error: dict[str, Any] = notification["error"]
    return error


def test_what_the_web_ui_refuses_fails_at_once_with_its_own_words(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message({**SMALL, "subseed": "many"}))
    assert failure(webui_cloud) == {
        "code": JobErrorCode.ENGINE_REFUSED,
        "message": "value is not a valid integer",
        "field": "content.subseed",
        "retryable": False,
    }


def test_a_picture_that_the_web_ui_cannot_read_fails_at_once(webui_cloud: Cloud) -> None:
    """Although the web UI answers that with 500."""
    broken = base64.b64encode(picture()[:30]).decode()
    webui_cloud.send(guidance_message({**SMALL, "init_images": [broken]}, "image-to-image"))
    error = failure(webui_cloud)
    assert error["code"] == JobErrorCode.ENGINE_REFUSED
    assert error["message"] == "Invalid encoded image"


def test_the_response_of_a_failure_has_the_guidances_form(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message({**SMALL, "sampler_name": "none"}))
    response = webui_cloud.read_json(webui_cloud.notification()["output_url"])
    parameters = response.pop("parameters")
    assert response == {"images": [""], "info": ""}
    assert parameters == {
        "id_task": "job-1",
        "status": 0,
        "error_msg": "Sampler not found",
        "reason": {"error": "HTTPException", "detail": "Sampler not found", "body": "", "errors": ""},
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/missing.png", b"", 404, JobErrorCode.INPUT_UNAVAILABLE),
        ("/text.png", b"not a picture", 200, JobErrorCode.INPUT_REFUSED),
    ],
)
def test_an_input_that_is_no_picture_fails_at_once_and_is_named(
    webui_cloud: Cloud, host: PicturesHost, path: str, body: bytes, status: int, code: JobErrorCode
) -> None:
    url = host.serves(path, body, status)
    webui_cloud.send(guidance_message({**SMALL, "init_images": [PNG, url], "batch_size": 2}, "image-to-image"))
    error = failure(webui_cloud)
    assert error["code"] == code
    assert error["field"] == "content.init_images[1]"
    assert error["retryable"] is False
    assert path not in error["message"]


def test_a_url_that_no_agent_fetches_fails_at_once(webui_cloud: Cloud) -> None:
    content = {**SMALL, "init_images": ["http://169.254.169.254/latest/meta-data/"]}
    webui_cloud.send(guidance_message(content, "image-to-image"))
    error = failure(webui_cloud)
    assert error["code"] == JobErrorCode.INVALID_TASK
    assert error["field"] == "content.init_images[0]"


def test_a_workflow_is_not_for_the_web_ui(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message(SMALL, "pipeline"))
    assert failure(webui_cloud)["code"] == JobErrorCode.INVALID_TASK


def test_a_failed_job_is_recorded(webui_cloud: Cloud) -> None:
    job_id = webui_cloud.send(guidance_message({**SMALL, "subseed": "many"}))
    failure(webui_cloud)
    result = webui_cloud.store.result("default", job_id)
    assert result is not None
    assert result.status is JobStatus.FAILED
    assert result.error is not None
    assert result.error.code is JobErrorCode.ENGINE_REFUSED


@pytest.mark.parametrize("raw", [True, False])
def test_a_v1alpha1_message_on_the_topic_is_run_raw_or_in_the_envelope(cloud: Cloud, webui: str, raw: bool) -> None:
    cloud.subscribe_runtime(raw=raw)
    scripts = {
        "task": "text-to-image",
        "sd_model_checkpoint": "v1-5-pruned-emaonly.safetensors",
        "id_task": "old-job",
        "uid": "123",
        "save_dir": "outputs",
        "sd_vae": "Automatic",
        "override_settings": {"CLIP_stop_at_last_layers": 2},
    }
    content = {**SMALL, "alwayson_scripts": scripts, "s3_output_path": "outputs/old-job"}
    message = guidance_message(content, label="old-job", prefix="outputs", runtime="legacy")
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        published = cloud.sns.publish(
            TopicArn=cloud.prompts,
            Message=json.dumps(message),
            MessageAttributes={"sd_model_checkpoint": {"DataType": "String", "StringValue": "x"}},
        )
        notification = cloud.notification()

    assert notification["status"] == "completed"
    assert notification["id"] == "old-job"
    assert notification["image_url"][0].startswith(f"s3://{cloud.outputs}/outputs/old-job/old-job-")
    parameters = cloud.read_json(notification["output_url"])["parameters"]
    assert parameters["override_settings"] == {"CLIP_stop_at_last_layers": 2}
    if not raw:
        assert notification["job_id"] == published["MessageId"]


def test_a_runtime_with_a_dynamic_checkpoint_uses_the_one_that_the_job_names(cloud: Cloud, webui: str) -> None:
    def runtimes_own() -> str:
        loaded: str = httpx.get(f"{webui}/sdapi/v1/options").json()["sd_model_checkpoint"]
        return loaded

    def used() -> str:
        notification = cloud.notification()
        assert notification["status"] == "completed"
        parameters = cloud.read_json(notification["output_url"])["parameters"]
        return str(parameters["override_settings"]["sd_model_checkpoint"])

    def asked_for(name: str) -> dict[str, Any]:
        return guidance_message({**SMALL, "alwayson_scripts": {"sd_model_checkpoint": name}})

    before = runtimes_own()
    settings = cloud.settings(engine="sdwebui", runtime_url=webui, dynamic_checkpoint=True, checkpoint=before)
    with running(settings, cloud):
        cloud.send(asked_for("sd_xl_base_1.0.safetensors"))
        assert used().startswith("sd_xl_base_1.0")
        assert runtimes_own() == before
        cloud.send(asked_for("nowhere.safetensors"))
        error = failure(cloud)
        assert error["code"] == JobErrorCode.ENGINE_REFUSED
        assert "nowhere.safetensors" in error["message"]
        cloud.send(guidance_message(SMALL))
        assert used().startswith(before)


def test_without_a_dynamic_checkpoint_a_jobs_checkpoint_is_only_its_route(webui_cloud: Cloud) -> None:
    webui_cloud.send(guidance_message({**SMALL, "alwayson_scripts": {"sd_model_checkpoint": "nowhere.safetensors"}}))
    assert webui_cloud.notification()["status"] == "completed"


def test_the_start_of_a_job_is_notified_when_that_is_asked_for(cloud: Cloud, webui: str) -> None:
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, notify_running=True), cloud):
        job_id = cloud.send(guidance_message(SMALL, context="mine"))
        first, second = cloud.notification(), cloud.notification()
    started = {"runtime": "sdxl", "id": "job-1", "status": "running", "context": "mine"}
    assert first == {**started, "job_id": job_id, "tenant": "default"}
    assert second["status"] == "completed"


def test_an_agent_without_records_runs_jobs_all_the_same(cloud: Cloud, webui: str) -> None:
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, jobs_bucket=None), cloud):
        cloud.send(guidance_message(SMALL))
        assert cloud.notification()["status"] == "completed"
        cloud.wait_until_empty()
    assert cloud.s3.list_objects_v2(Bucket=cloud.jobs)["KeyCount"] == 0
