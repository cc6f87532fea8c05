"""The local API Gateway answers by itself as the service does."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from darkroom.local.gateway import MAX_REQUEST_BYTES, Gateway, UsagePlan
from darkroom.local.lambda_service import LambdaService
from darkroom_contract import openapi
from tests.unit.darkroom.functions import listener, running


@contextmanager
def served(function: LambdaService, *, timeout_millis: int = 29_000, quota: int | None = None) -> Iterator[Gateway]:
    document = json.loads(openapi.text("arn:aws:lambda:…", "test"))
    document["paths"]["/v1/jobs"]["post"]["x-amazon-apigateway-integration"]["timeoutInMillis"] = timeout_millis
    plan = UsagePlan(key_id="a", key_value="key", rate_limit=1000, burst_limit=1000, quota=quota)
    gateway = Gateway(document, "prod", [plan], function)
    try:
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambdaService]:
    with running(tmp_path_factory.mktemp("logs")) as function:
        yield function


@pytest.fixture
def gateway(function: LambdaService) -> Iterator[Gateway]:
    with served(function) as gateway:
        yield gateway


def post(gateway: Gateway, body: str | bytes) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/jobs", content=body, headers={"x-api-key": "key"}, timeout=60)


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_the_functions_answer_is_given_as_it_is(gateway: Gateway) -> None:
    answer = post(gateway, "picture")
    assert (answer.status_code, answer.content) == (201, b"\x89PNG")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers.get_list("x-seen") == ["a", "b"]


@pytest.mark.parametrize("order", ["text", "no status", "a body that is no text", "raise", "end"])
def test_a_function_that_fails_or_answers_nonsense_is_a_bad_gateway(gateway: Gateway, order: str) -> None:
    assert error(post(gateway, order)) == (502, "internal")


def test_a_function_that_takes_longer_than_the_integration_may_is_a_timeout(function: LambdaService) -> None:
    with served(function, timeout_millis=300) as gateway, listener() as (call, _):
        assert error(post(gateway, call)) == (504, "timeout")


def test_a_function_that_is_throttled_is_unavailable_for_the_moment(tmp_path: Path) -> None:
    with (
        running(tmp_path, concurrency=1) as function,
        served(function) as gateway,
        listener() as (call, server),
        ThreadPoolExecutor(1) as other,
    ):
        first = other.submit(post, gateway, call)
        connection, _ = server.accept()
        answer = post(gateway, "hello")
        assert error(answer) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        connection.close()
        assert first.result().status_code == 200


def test_a_key_whose_quota_for_the_day_is_used_up_has_to_wait(function: LambdaService) -> None:
    with served(function, quota=1) as gateway:
        assert post(gateway, "hello").status_code == 200
        answer = post(gateway, "hello")
        assert error(answer) == (429, "too_many_requests")
        assert "quota" in answer.json()["error"]["message"]


def test_a_method_that_the_document_lacks_is_an_unknown_route(gateway: Gateway) -> None:
    headers = {"x-api-key": "key"}
    assert httpx.head(f"{gateway.url}/v1/jobs/a", headers=headers).status_code == 404
    assert error(httpx.put(f"{gateway.url}/v1/jobs/a", headers=headers)) == (404, "unknown_route")


def test_a_request_of_the_limit_is_taken_and_one_byte_more_is_not(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lambda's own limit is lower: to meet this one, something else has to answer.
    def count(event: dict[str, str], within: float) -> dict[str, object]:
        return {"statusCode": 200, "body": str(len(event["body"]))}

    monkeypatch.setattr(gateway.function, "invoke", count)
    assert post(gateway, b"x" * MAX_REQUEST_BYTES).text == str(MAX_REQUEST_BYTES)
    assert error(post(gateway, b"x" * (MAX_REQUEST_BYTES + 1))) == (413, "too_large")
