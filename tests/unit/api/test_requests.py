"""What the function refuses, with which status, code and field, and in which words."""

import json
from typing import Any

import pytest

from darkroom_api.requests import MAX_DEPTH
from darkroom_contract.errors import ErrorCode
from tests.unit.api.conftest import Cloud
from tests.unit.api.events import (
    V1,
    V1ALPHA1,
    V1ALPHA2,
    event,
    invoke,
    key,
    post,
    post_bytes,
    v1_body,
    v1alpha1_body,
    v1alpha2_body,
)

pytestmark = pytest.mark.usefixtures("cloud")

IDENTIFIER = "1 to 128 letters, digits, '-' and '_'"


@pytest.mark.parametrize(
    ("method", "resource"),
    [
        ("GET", V1),
        ("GET", V1ALPHA1),
        ("DELETE", "/v1/jobs/{id}"),
        ("GET", "/v1/jobs/{id}/cancel"),
        ("POST", "/v2/jobs"),
        ("POST", "/"),
        ("", ""),
    ],
)
def test_a_method_and_path_that_is_not_there_is_unknown(method: str, resource: str) -> None:
    answer = invoke(event(method, resource, "{}"))
    assert (answer.status, answer.error["code"]) == (404, ErrorCode.UNKNOWN_ROUTE)
    assert "POST /v1/jobs" in answer.error["message"]


@pytest.mark.parametrize("api_key", [None, "", "too-short", key("stranger"), key()[1:]])
def test_a_key_of_no_tenant_is_forbidden(api_key: str | None) -> None:
    answer = invoke(event("POST", V1, json.dumps(v1_body()), api_key=api_key))
    assert (answer.status, answer.error["code"]) == (403, ErrorCode.FORBIDDEN)


@pytest.mark.parametrize("missing", [{"requestContext": None}, {"requestContext": {"identity": None}}])
def test_an_event_without_a_key_is_forbidden(missing: dict[str, Any]) -> None:
    assert invoke(event("POST", V1, json.dumps(v1_body())) | missing).status == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"'a'",
        b'{"runtime": "sdxl", "content": {"cfg_scale": NaN}}',
        b'{"runtime": "sdxl", "content": {"cfg_scale": -Infinity}}',
        b'{"runtime": "sdxl", "content": {"cfg_scale": 1e999}}',
        b'{"runtime": "sdxl", "content": {}, "context": [-1e999]}',
        b'{"runtime": "sdxl", "content": {"steps": ' + b"1" * 5000 + b"}}",
        b'{"runtime": "sdxl", "content": {"prompt": "\xff"}}',
        b'{"runtime": "sdxl", "content": {"prompt": "\\ud800"}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH,
    ],
)
@pytest.mark.parametrize("resource", [V1ALPHA1, V1ALPHA2, V1])
def test_a_body_that_is_no_json_object_is_invalid(resource: str, body: bytes) -> None:
    answer = post_bytes(resource, body)
    assert (answer.status, answer.error["code"]) == (400, ErrorCode.INVALID_JSON)


@pytest.mark.parametrize("text", ["not base64!", "e30", "ü"])
def test_a_body_that_is_no_base64_is_invalid(text: str) -> None:
    answer = invoke(event("POST", V1, text, is_base64=True))
    assert (answer.status, answer.error["code"]) == (400, ErrorCode.INVALID_JSON)


@pytest.mark.parametrize("body", [None, "", '{"prompt": "\ud800"}'])
def test_a_body_that_is_no_text_is_invalid(body: str | None) -> None:
    answer = invoke(event("POST", V1, body))
    assert (answer.status, answer.error["code"]) == (400, ErrorCode.INVALID_JSON)


def test_a_body_in_base64_is_decoded() -> None:
    assert post_bytes(V1, json.dumps(v1_body(content={"prompt": "猫"}), ensure_ascii=False).encode()).status == 202


def test_a_body_as_deep_as_allowed_is_taken(cloud: Cloud) -> None:
    nested: Any = 1
    for _ in range(MAX_DEPTH - 2):
        nested = [nested]
    answer = post(V1, v1_body(id="deep", content={"prompt": "a cat", "extra": nested}))
    assert answer.status == 202
    [received] = cloud.published()
    [record] = cloud.requests()
    assert received.message.content == record.job.content


@pytest.mark.parametrize("resource", [V1ALPHA1, V1ALPHA2, V1])
@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_a_multipart_body_is_not_taken(resource: str, name: str) -> None:
    answer = invoke(event("POST", resource, "{}", headers={name: "multipart/form-data; boundary=x"}))
    assert (answer.status, answer.error["code"]) == (415, ErrorCode.UNSUPPORTED_MEDIA_TYPE)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (None, 202),
        ({}, 202),
        ({"content-type": "application/json"}, 202),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, 202),
        ({"Content-Type": "application/vnd.shop+json"}, 202),
        ({"Content-Encoding": "identity"}, 202),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
def test_v1_takes_json_alone(headers: dict[str, str] | None, status: int) -> None:
    assert invoke(event("POST", V1, json.dumps(v1_body()), headers=headers)).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (None, 200),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 200),
        ({"Content-Type": "text/plain"}, 200),
        ({"content-encoding": "deflate"}, 415),
    ],
)
def test_v1alpha_takes_json_whatever_it_is_called(headers: dict[str, str] | None, status: int) -> None:
    assert invoke(event("POST", V1ALPHA2, json.dumps(v1alpha2_body()), headers=headers)).status == status


def without(body: dict[str, Any], path: str) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(body))
    *parents, last = path.split(".")
    inner = copy
    for name in parents:
        inner = inner[name]
    del inner[last]
    return copy


@pytest.mark.parametrize(
    ("resource", "body", "field"),
    [
        *(
            (V1ALPHA1, v1alpha1_body(), f"alwayson_scripts.{name}")
            for name in ("task", "sd_model_checkpoint", "id_task", "save_dir")
        ),
        *(
            (V1ALPHA2, v1alpha2_body(), f"task.{name}")
            for name in (
                "content",
                "metadata",
                *(f"metadata.{name}" for name in ("id", "runtime", "tasktype", "prefix")),
            )
        ),
        (V1ALPHA2, v1alpha2_body(), "task"),
        (V1, v1_body(), "runtime"),
        (V1, v1_body(), "content"),
    ],
)
def test_a_missing_field_is_named(resource: str, body: dict[str, Any], field: str) -> None:
    answer = post(resource, without(body, field))
    assert (answer.status, answer.error["code"], answer.error["field"]) == (422, ErrorCode.INVALID_FIELD, field)
    assert answer.error["message"].startswith(f"{field} is missing: it must be ")


@pytest.mark.parametrize(
    ("resource", "body", "field", "words"),
    [
        (V1ALPHA1, {"prompt": "a cat"}, "alwayson_scripts", "an object with task"),
        (V1ALPHA1, {"alwayson_scripts": []}, "alwayson_scripts", "an object with task"),
        (V1ALPHA1, v1alpha1_body(task="paint"), "alwayson_scripts.task", "text-to-image, image-to-image"),
        (V1ALPHA1, v1alpha1_body(id_task="a/b"), "alwayson_scripts.id_task", IDENTIFIER),
        (V1ALPHA1, v1alpha1_body(save_dir="../up"), "alwayson_scripts.save_dir", "no segment is empty, '.' or '..'"),
        (V1ALPHA1, v1alpha1_body(sd_model_checkpoint=""), "alwayson_scripts.sd_model_checkpoint", "1 to 256"),
        (V1ALPHA2, {"task": "text-to-image"}, "task", "an object with metadata and content"),
        (V1ALPHA2, v1alpha2_body(id=7), "task.metadata.id", IDENTIFIER),
        (V1ALPHA2, v1alpha2_body(id="ä"), "task.metadata.id", IDENTIFIER),
        (V1ALPHA2, v1alpha2_body(tasktype=None), "task.metadata.tasktype", "one of text-to-image"),
        (V1ALPHA2, v1alpha2_body(runtime="SDXL"), "task.metadata.runtime", "lower-case letters"),
        (V1ALPHA2, v1alpha2_body(prefix=""), "task.metadata.prefix", "1 to 512"),
        (V1ALPHA2, v1alpha2_body(prefix="/a"), "task.metadata.prefix", "1 to 512"),
        (V1, v1_body(id=""), "id", IDENTIFIER),
        (V1, v1_body(id="a" * 129), "id", IDENTIFIER),
        (V1, v1_body(id="a\n"), "id", IDENTIFIER),
        (V1, v1_body(task="paint"), "task", "one of text-to-image"),
        (V1, v1_body(prefix="a//b"), "prefix", "single slashes"),
        (V1, v1_body(content="a cat"), "content", "the engine's own request"),
        (V1, v1_body(prompt="a cat"), "prompt", "id, runtime, task, prefix, context, output, notify_running, content"),
        (V1, v1_body(output="webp"), "output", "an object with format"),
        (V1, v1_body(output={"format": "png", "quality": 80}), "output.quality", "PNG has no quality: leave it out"),
        (V1, v1_body(output={"quality": 80}), "output.format", "one of png, jpeg, webp, avif"),
        (V1, v1_body(output={"format": "gif"}), "output.format", "one of png, jpeg, webp, avif"),
        (V1, v1_body(output={"format": "webp", "quality": 0}), "output.quality", "from 1 to 100"),
        (V1, v1_body(output={"format": "webp", "quality": 80.5}), "output.quality", "from 1 to 100"),
        (V1, v1_body(output={"format": "webp", "quality": 80.0}), "output.quality", "a whole number"),
        (V1, v1_body(output={"format": "webp", "quality": "80"}), "output.quality", "a whole number"),
        (V1, v1_body(output={"format": "webp", "quality": True}), "output.quality", "a whole number"),
        (V1, v1_body(output={"format": "png", "quality": "80"}), "output.quality", "a whole number"),
        (V1, v1_body(output={"format": "webp", "lossless": True}), "output.lossless", "there are format, quality"),
        (V1, v1_body(notify_running="yes"), "notify_running", "true or false"),
        (V1, v1_body(notify_running=1), "notify_running", "true or false"),
        (V1ALPHA2, v1alpha2_body(output={"format": "gif"}), "task.metadata.output.format", "one of png"),
        (V1ALPHA2, v1alpha2_body(output={"format": "avif", "q": 1}), "task.metadata.output.q", "format, quality"),
        (
            V1ALPHA2,
            v1alpha2_body(output={"format": "png", "quality": 8}),
            "task.metadata.output.quality",
            "leave it out",
        ),
        (V1ALPHA2, v1alpha2_body(output={"format": "avif", "quality": "8"}), "task.metadata.output.quality", "number"),
        (V1ALPHA2, v1alpha2_body(notify_running="yes"), "task.metadata.notify_running", "true or false"),
    ],
)
def test_a_wrong_field_is_told_what_would_be_right(resource: str, body: dict[str, Any], field: str, words: str) -> None:
    answer = post(resource, body)
    assert (answer.status, answer.error["code"], answer.error["field"]) == (422, ErrorCode.INVALID_FIELD, field)
    assert words in answer.error["message"]


def test_the_name_of_a_field_that_a_client_made_up_is_cut(cloud: Cloud) -> None:
    answer = post(V1, v1_body() | {"x" * 100_000: 1})
    assert answer.status == 422
    assert len(json.dumps(answer.body)) < 1000
