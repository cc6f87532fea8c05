"""Prompts that are taken: what is answered, recorded and published."""

import json
from typing import Any

import pytest
from moto.s3.responses import S3Response

from darkroom_contract.errors import ErrorCode
from darkroom_contract.job import MAX_CONTEXT_BYTES, Api, Job
from darkroom_contract.names import JobFact, job_key
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.types import Engine, OutputFormat, PictureFormat, Task
from tests.unit.api.conftest import CHECKPOINT, JOBS, OUTPUTS, Cloud, environment
from tests.unit.api.events import V1, V1ALPHA1, V1ALPHA2, post, v1_body, v1alpha1_body, v1alpha2_body

WORKFLOW = {"3": {"class_type": "KSampler", "inputs": {"seed": 1}}}


def published_job(cloud: Cloud) -> Job:
    """The only job that was published, with its content in the message."""
    [received] = cloud.published()
    job = received.message.to_job(received.message_id)
    assert job is not None
    return job


def test_a_v1alpha2_request_is_answered_as_the_guidance_does(cloud: Cloud) -> None:
    answer = post(V1ALPHA2, v1alpha2_body())
    assert answer.status == 200
    assert answer.body == {
        "id": "order-1",
        "runtime": "sdxl",
        "output_location": f"s3://{OUTPUTS}/shop/a/order-1",
    }


def test_a_v1alpha1_request_is_answered_as_the_guidance_does(cloud: Cloud) -> None:
    answer = post(V1ALPHA1, v1alpha1_body())
    assert answer.status == 200
    assert answer.body == {
        "id_task": "order-1",
        "sd_model_checkpoint": CHECKPOINT,
        "output_location": f"s3://{OUTPUTS}/shop/a/order-1",
    }


def test_a_v1_request_is_answered_with_the_job_and_where_to_ask_for_it(cloud: Cloud) -> None:
    answer = post(V1, v1_body(id="mine", prefix="shop"))
    assert answer.status == 202
    assert answer.headers["Location"] == "/prod/v1/jobs/mine"
    submitted_at = answer.body.pop("submitted_at")
    assert submitted_at.endswith("Z")
    assert answer.body == {
        "id": "mine",
        "status": "accepted",
        "runtime": "sdxl",
        "task": "text-to-image",
        "output_location": f"s3://{OUTPUTS}/shop/mine",
        "images": [],
    }


def test_a_v1_request_without_an_id_gets_one(cloud: Cloud) -> None:
    answers = [post(V1, v1_body()) for _ in range(2)]
    assert [answer.status for answer in answers] == [202, 202]
    assert len({answer.body["id"] for answer in answers}) == 2
    assert len(cloud.published()) == 2


@pytest.mark.parametrize(
    ("resource", "body", "route"),
    [
        (V1ALPHA1, v1alpha1_body(), {"runtime": "sdxl"}),
        (V1ALPHA1, v1alpha1_body(task="extra-single-image"), {"runtime": "sdxl"}),
        (V1ALPHA2, v1alpha2_body(), {"runtime": "sdxl"}),
        (V1, v1_body(), {"runtime": "sdxl"}),
    ],
)
def test_a_message_has_the_one_attribute_that_finds_its_queue(
    cloud: Cloud, resource: str, body: object, route: dict[str, str]
) -> None:
    assert post(resource, body).status in (200, 202)
    assert cloud.attributes() == route


def test_a_v1alpha2_message_has_the_guidance_s_metadata_and_content(cloud: Cloud) -> None:
    post(V1ALPHA2, v1alpha2_body({"prompt": "a cat", "seed": 7}, context={"order": [1, None]}))
    [envelope] = cloud.envelopes()
    message = json.loads(envelope["Message"])
    del message["metadata"]["darkroom"]
    assert message == {
        "metadata": {
            "id": "order-1",
            "runtime": "sdxl",
            "tasktype": "text-to-image",
            "prefix": "shop/a",
            "context": {"order": [1, None]},
        },
        "content": {"prompt": "a cat", "seed": 7},
    }


def test_a_v1alpha1_message_names_the_runtime_that_serves_its_checkpoint(cloud: Cloud) -> None:
    post(V1ALPHA1, v1alpha1_body())
    job = published_job(cloud)
    assert (job.api, job.runtime, job.checkpoint) == (Api.V1ALPHA1, "sdxl", CHECKPOINT)
    assert job.content["alwayson_scripts"] == {}


@pytest.mark.parametrize(
    ("resource", "body"), [(V1ALPHA1, v1alpha1_body()), (V1ALPHA2, v1alpha2_body()), (V1, v1_body(id="order-1"))]
)
def test_what_is_published_is_what_is_recorded(cloud: Cloud, resource: str, body: object) -> None:
    answer = post(resource, body)
    [received] = cloud.published()
    [record] = cloud.requests()
    assert received.message.to_job(received.message_id) == record.job
    assert received.message.metadata.darkroom is not None
    assert received.message.metadata.darkroom.nonce == record.nonce
    assert record.job.job_id == answer.headers.get("x-darkroom-job", "order-1")


@pytest.mark.parametrize("size", [1, 300 * 1024])
@pytest.mark.parametrize(("resource", "in_metadata"), [(V1, False), (V1ALPHA2, True)])
def test_the_wishes_of_a_request_go_with_its_job(cloud: Cloud, resource: str, in_metadata: bool, size: int) -> None:
    wishes = {"output": {"format": "webp", "quality": 80}, "notify_running": True}
    content = {"prompt": "a cat", "styles": ["A" * size]}
    body = v1alpha2_body(content, **wishes) if in_metadata else v1_body(content=content, **wishes)
    assert post(resource, body).status in (200, 202)
    [record] = cloud.requests()
    assert record.job.output == OutputFormat(format=PictureFormat.WEBP, quality=80)
    assert record.job.notify_running
    [received] = cloud.published()
    assert received.message.metadata.darkroom is not None
    assert received.message.metadata.darkroom.output == record.job.output
    assert received.message.metadata.darkroom.notify_running


def test_a_v1alpha_id_is_a_label_that_may_repeat(cloud: Cloud) -> None:
    jobs = {post(V1ALPHA2, v1alpha2_body()).headers["x-darkroom-job"] for _ in range(2)}
    assert len(jobs) == 2
    assert {record.job.job_id for record in cloud.requests()} == jobs
    assert len(cloud.published()) == 2


def test_a_seed_of_any_is_pinned(cloud: Cloud) -> None:
    post(V1, v1_body(content={"prompt": "a cat", "seed": -1}))
    seed = published_job(cloud).content["seed"]
    assert isinstance(seed, int)
    assert 0 <= seed < 2**32


def test_a_tenant_s_pictures_go_into_its_own_folder(cloud: Cloud) -> None:
    answer = post(V1ALPHA2, v1alpha2_body(), tenant="studio")
    assert answer.body["output_location"] == f"s3://{OUTPUTS}/studio/shop/a/order-1"
    assert published_job(cloud).tenant == "studio"


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        (V1ALPHA1, v1alpha1_body(save_dir="studio/x"), "alwayson_scripts.save_dir"),
        (V1ALPHA2, v1alpha2_body(prefix="studio"), "task.metadata.prefix"),
        (V1, v1_body(prefix="studio"), "prefix"),
    ],
)
def test_the_default_tenant_may_not_write_into_another_s_folder(
    cloud: Cloud, resource: str, body: object, field: str
) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["field"]) == (422, field)
    assert "'studio'" in answer.error["message"]


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        (V1ALPHA1, {"init_images": ["http://10.0.0.1/a.png"]} | v1alpha1_body(), "init_images[0]"),
        (V1ALPHA2, v1alpha2_body({"init_images": ["http://x/a.png"]}), "task.content.init_images[0]"),
        (V1, v1_body(content={"mask": "https://169.254.169.254/latest"}), "content.mask"),
        (V1, v1_body(content={"mask": "/etc/passwd"}), "content.mask"),
        (V1ALPHA2, v1alpha2_body({"init_images": ["aGk="] * 17}), "task.content.init_images[16]"),
        (
            V1,
            v1_body(runtime="flux", content={"1": {"class_type": "LoadImage", "inputs": {"image": "../a.png"}}}),
            "content.1.inputs.image",
        ),
    ],
)
def test_an_input_that_no_agent_would_fetch_is_refused(cloud: Cloud, resource: str, body: object, field: str) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["field"]) == (422, field)


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        (
            V1ALPHA1,
            {"override_settings": {"outdir_samples": "/"}} | v1alpha1_body(),
            "override_settings.outdir_samples",
        ),
        (V1, v1_body(content={"override_settings": {"temp_dir": "/"}}), "content.override_settings.temp_dir"),
    ],
)
def test_a_setting_that_is_the_runtime_s_own_is_refused(cloud: Cloud, resource: str, body: object, field: str) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["field"]) == (422, field)


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        (V1ALPHA1, {**v1alpha1_body(), "steps": -1}, "steps"),
        (V1ALPHA2, v1alpha2_body({"width": 0}), "task.content.width"),
        (V1, v1_body(content={"cfg_scale": None}), "content.cfg_scale"),
    ],
)
def test_what_no_web_ui_can_draw_starts_no_gpu(cloud: Cloud, resource: str, body: object, field: str) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["field"]) == (422, field)
    assert cloud.published() == []


def test_a_job_s_settings_end_with_it(cloud: Cloud) -> None:
    settings = {"override_settings": {"sd_vae": "None"}, "override_settings_restore_afterwards": False}
    assert post(V1ALPHA2, v1alpha2_body({"prompt": "a cat", **settings})).status == 200
    assert published_job(cloud).content["override_settings_restore_afterwards"] is True


def test_a_comfyui_runtime_takes_a_workflow_whatever_its_task_is_called(cloud: Cloud) -> None:
    assert post(V1ALPHA2, v1alpha2_body(WORKFLOW, runtime="flux")).status == 200
    assert published_job(cloud).task is Task.PIPELINE


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        (V1ALPHA2, v1alpha2_body(runtime="flux"), "task.content"),
        (V1, v1_body(runtime="flux"), "content"),
        (V1, v1_body(runtime="sdxl", task="pipeline", content=WORKFLOW), "content"),
    ],
)
def test_a_task_that_the_runtime_s_engine_does_not_run_is_refused(
    cloud: Cloud, resource: str, body: object, field: str
) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["field"]) == (422, field)
    assert cloud.published() == []
    assert cloud.requests() == []


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        (V1ALPHA1, v1alpha1_body(sd_model_checkpoint="none.ckpt"), "alwayson_scripts.sd_model_checkpoint"),
        (V1ALPHA2, v1alpha2_body(runtime="none"), "task.metadata.runtime"),
        (V1, v1_body(runtime="none"), "runtime"),
    ],
)
def test_an_unknown_runtime_is_refused(cloud: Cloud, resource: str, body: object, field: str) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["code"], answer.error["field"]) == (404, ErrorCode.UNKNOWN_RUNTIME, field)
    assert "none" in answer.error["message"]
    assert cloud.published() == []


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        (V1ALPHA1, v1alpha1_body(sd_model_checkpoint="closed.ckpt")),
        (V1ALPHA2, v1alpha2_body(runtime="closed")),
        (V1, v1_body(runtime="closed")),
    ],
)
def test_a_runtime_that_is_being_drained_takes_no_job(cloud: Cloud, resource: str, body: object) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["code"]) == (409, ErrorCode.RUNTIME_NOT_ACCEPTING)
    assert cloud.published() == []


def test_two_checkpoints_have_their_own_runtimes(cloud: Cloud) -> None:
    cloud.register(RegistryEntry(name="anime", engine=Engine.SDWEBUI, checkpoint="anime.ckpt"))
    assert post(V1ALPHA1, v1alpha1_body(sd_model_checkpoint="anime.ckpt")).status == 200
    assert cloud.attributes() == {"runtime": "anime"}


@pytest.mark.parametrize("size", [250, 300, 4000])
def test_a_large_content_goes_by_claim_check(cloud: Cloud, size: int) -> None:
    picture = "A" * size * 1024
    answer = post(V1, v1_body(id="large", task="image-to-image", content={"init_images": [picture], "seed": 1}))
    assert answer.status == 202
    [envelope] = cloud.envelopes()
    assert "content" not in json.loads(envelope["Message"])
    [record] = cloud.requests()
    assert record.job.content["init_images"] == [picture]


def test_what_is_too_large_for_a_claim_check_is_refused(cloud: Cloud) -> None:
    scripts = {"sd_model_checkpoint": "A" * 300 * 1024}
    answer = post(V1ALPHA2, v1alpha2_body({"alwayson_scripts": scripts}))
    assert (answer.status, answer.error["code"]) == (413, ErrorCode.TOO_LARGE)
    assert cloud.requests() == []


@pytest.mark.parametrize(
    ("context", "status"),
    [
        ("c" * (MAX_CONTEXT_BYTES - 2), 202),
        ("c" * (MAX_CONTEXT_BYTES - 1), 422),
        ("é" * (MAX_CONTEXT_BYTES // 6 + 1), 422),
    ],
)
def test_a_context_has_a_limit_in_bytes_of_json(cloud: Cloud, context: str, status: int) -> None:
    answer = post(V1, v1_body(context=context))
    assert answer.status == status
    if status == 422:
        assert answer.error["field"] == "context"
        assert "64 KiB" in answer.error["message"]


def test_without_records_any_runtime_is_taken(without_records: Cloud) -> None:
    assert post(V1, v1_body(runtime="whatever")).status == 202
    assert post(V1ALPHA1, v1alpha1_body(sd_model_checkpoint="any.ckpt")).status == 200
    assert len(without_records.published()) == 2
    assert without_records.requests() == []


def test_without_records_a_large_body_is_refused(without_records: Cloud) -> None:
    answer = post(V1ALPHA2, v1alpha2_body({"init_images": ["A" * 210 * 1024]}, tasktype="image-to-image"))
    assert (answer.status, answer.error["code"]) == (413, ErrorCode.TOO_LARGE)
    assert without_records.published() == []


def test_a_v1alpha_request_that_cannot_be_published_may_be_sent_again(cloud: Cloud) -> None:
    with cloud.down("SNS"):
        answer = post(V1ALPHA2, v1alpha2_body())
    assert (answer.status, answer.error["code"]) == (503, ErrorCode.UNAVAILABLE)
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_request_that_cannot_be_recorded_is_not_published(cloud: Cloud) -> None:
    with cloud.down("S3"):
        answer = post(V1, v1_body(id="mine"))
    assert (answer.status, answer.error["code"]) == (503, ErrorCode.UNAVAILABLE)
    assert cloud.published() == []


def test_a_topic_that_is_not_there_is_an_internal_error_without_details(cloud: Cloud) -> None:
    with environment(PROMPT_TOPIC_ARN=cloud.topic_arn + "-gone"):
        answer = post(V1ALPHA2, v1alpha2_body())
    assert (answer.status, answer.error["code"]) == (500, ErrorCode.INTERNAL)
    assert "arn:" not in json.dumps(answer.body)


def test_the_records_are_where_the_agent_looks(cloud: Cloud) -> None:
    post(V1, v1_body(id="mine"), tenant="studio")
    keys = {entry["Key"] for entry in cloud.s3.list_objects_v2(Bucket=JOBS, Prefix="jobs/")["Contents"]}
    assert keys == {job_key("studio", "mine", fact) for fact in (JobFact.REQUEST, JobFact.PUBLISHED)}


def test_a_throttled_request_may_be_sent_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_down(self: S3Response, query: dict[str, Any], key_name: str) -> tuple[int, dict[str, str], str]:
        return 503, {}, "<Error><Code>SlowDown</Code></Error>"

    monkeypatch.setattr(S3Response, "_key_response_put", slow_down)
    answer = post(V1, v1_body(id="mine"))
    assert (answer.status, answer.error["code"]) == (503, ErrorCode.UNAVAILABLE)
    assert int(answer.headers["Retry-After"]) >= 1
    assert cloud.published() == []
