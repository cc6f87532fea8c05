"""What cannot be done is refused at the earliest point that can know it, clearly, and leaves nothing half-done."""

import uuid
from typing import Any

import httpx
import pytest

from darkroom.local.stack import Stack
from darkroom_contract.names import Bucket
from tests.flow.flow import Flow
from tests.flow.test_guidance_clients import text_to_image, workflow
from tests.flow.test_jobs import submission


def v1alpha2(**metadata: Any) -> dict[str, Any]:
    base = {"id": "a", "runtime": "webui", "tasktype": "text-to-image", "prefix": "p"}
    return {"task": {"metadata": {**base, **metadata}, "content": text_to_image()}}


NOT_A_NUMBER = '{"runtime": "webui", "content": {"cfg_scale": NaN}}'
REFUSED: dict[str, tuple[str, Any, int, str, str | None]] = {
    "an unknown runtime": ("v1/jobs", submission("nowhere"), 404, "unknown_runtime", "runtime"),
    "an unknown runtime, v1alpha2": (
        "v1alpha2",
        v1alpha2(runtime="no"),
        404,
        "unknown_runtime",
        "task.metadata.runtime",
    ),
    "a runtime that is being removed": ("v1/jobs", submission("closed"), 409, "runtime_not_accepting", "runtime"),
    "malformed JSON": ("v1/jobs", '{"runtime": ', 400, "invalid_json", None),
    "no object": ("v1/jobs", "[]", 400, "invalid_json", None),
    "not a number": ("v1/jobs", NOT_A_NUMBER, 400, "invalid_json", None),
    "a missing field": ("v1/jobs", {"runtime": "webui"}, 422, "invalid_field", "content"),
    "a missing field, v1alpha2": ("v1alpha2", {"task": {}}, 422, "invalid_field", "task.metadata"),
    "an unknown field": ("v1/jobs", {**submission("webui"), "promt": 1}, 422, "invalid_field", "promt"),
    "a prefix with ..": ("v1alpha2", v1alpha2(prefix="a/../b"), 422, "invalid_field", "task.metadata.prefix"),
    "another tenant's folder": ("v1alpha2", v1alpha2(prefix="studio/b"), 422, "invalid_field", "task.metadata.prefix"),
    "an id of 200 characters": ("v1alpha2", v1alpha2(id="x" * 200), 422, "invalid_field", "task.metadata.id"),
    "a content that is a list": ("v1/jobs", {"runtime": "webui", "content": []}, 422, "invalid_field", "content"),
    "a workflow for a web UI": (
        "v1/jobs",
        {"runtime": "webui", "task": "pipeline", "content": workflow("x")},
        422,
        "invalid_field",
        "content",
    ),
    "a web UI's body for ComfyUI": (
        "v1/jobs",
        {"runtime": "comfyui", "content": text_to_image()},
        422,
        "invalid_field",
        "content",
    ),
    "an input on the metadata service": (
        "v1/jobs",
        {
            "runtime": "webui",
            "task": "image-to-image",
            "content": {"init_images": ["https://169.254.169.254/latest/meta-data/"]},
        },
        422,
        "invalid_field",
        "content.init_images[0]",
    ),
    "no such path": ("v2/jobs", {}, 404, "unknown_route", None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_be_done_is_refused_at_the_door(flow: Flow, case: str) -> None:
    path, body, status, code, field = REFUSED[case]
    jobs = _jobs(flow)
    answer = flow.post(path, body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    error = answer.json()["error"]
    assert (error["code"], error.get("field")) == (code, field), error
    assert len(error["message"]) > 10
    assert _jobs(flow) <= jobs


def _jobs(flow: Flow) -> set[str]:
    """The jobs that there are; those of other tests may run on meanwhile."""
    return {key.rpartition("/")[0] for key in flow.keys(Bucket.JOBS, "jobs/")}


def test_a_body_of_20_megabytes_is_too_large(flow: Flow) -> None:
    answer = flow.post("v1/jobs", b"x" * 20_000_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_body_that_lambda_would_not_take_is_too_large(flow: Flow) -> None:
    answer = flow.post("v1/jobs", submission("webui", styles=["x" * 7_000_000]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_body_that_is_not_json_by_its_type_is_refused(flow: Flow) -> None:
    answer = flow.post("v1/jobs", "<prompt/>", **{"content-type": "text/xml"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("key", [None, "", "wrong"])
def test_a_caller_without_a_valid_key_is_refused(stack: Stack, key: str | None) -> None:
    headers = {} if key is None else {"x-api-key": key}
    answer = httpx.post(f"{stack.url}/v1/jobs", json=submission("webui"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")


def test_a_tenant_that_asks_for_more_than_its_plan_is_told_to_wait(flow: Flow) -> None:
    answers = [flow.get("v1/jobs/none", tenant="slow") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [404, 429]
    assert answers[1].json()["error"]["code"] == "too_many_requests"
    assert int(answers[1].headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://nowhere.invalid/a.png", "input_unavailable"),
        ("https://localtest.localdomain.invalid/a.png", "input_unavailable"),
        ("s3://somebody-elses-bucket/a.png", "input_refused"),
    ],
)
def test_an_input_that_cannot_be_had_fails_the_job_with_its_field(flow: Flow, url: str, code: str) -> None:
    request = {
        "id": uuid.uuid4().hex,
        "runtime": "webui",
        "task": "image-to-image",
        "content": {**text_to_image(), "init_images": [url]},
    }
    assert flow.post("v1/jobs", request).status_code == 202
    (notification,) = flow.notifications(1, lambda it: it["id"] == request["id"])
    assert (notification["result"], notification["status"], notification["image_url"]) == (False, "failed", [])
    assert notification["error"]["code"] == code
    assert notification["error"]["field"] == "content.init_images[0]"
    view = flow.get(f"v1/jobs/{request['id']}").json()
    assert (view["status"], view["error"]) == ("failed", notification["error"])
    assert flow.json_object(notification["output_url"])["parameters"]["status"] == 0
    assert not [key for key in flow.keys(Bucket.OUTPUTS, f"{request['id']}/") if key.endswith(".png")]
