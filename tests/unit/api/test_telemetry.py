"""What the function logs and counts, and what it must never."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from darkroom_api.telemetry import logger
from darkroom_contract.names import JobFact, job_key
from tests.unit.api.conftest import Cloud
from tests.unit.api.events import SECRET, V1, V1ALPHA2, event, get, invoke, key, post, v1_body, v1alpha2_body

PROMPT = "nobody may read this prompt"
HEADER = "nobody may read this header"

Output = Callable[[], str]


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Output]:
    """Everything that the function wrote: its log, and its metrics on standard output."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logger.registered_formatter)
    logging.getLogger(logger.service).addHandler(handler)
    yield lambda: written.getvalue() + capsys.readouterr().out
    logging.getLogger(logger.service).removeHandler(handler)


def lines(output: Output) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output().splitlines()]


def answered(output: Output) -> dict[str, Any]:
    """The line of the only request."""
    [line] = [line for line in lines(output) if line.get("message") == "answered" and "milliseconds" in line]
    return line


def metrics(output: Output) -> list[dict[str, Any]]:
    return [line for line in lines(output) if "_aws" in line]


def test_a_request_is_one_line(cloud: Cloud, output: Output) -> None:
    post(V1ALPHA2, v1alpha2_body(), tenant="studio")
    line = answered(output)
    assert line["milliseconds"] > 0
    assert line["bytes"] > 0
    [record] = cloud.requests()
    expected = {
        "level": "INFO",
        "request_id": "an-invocation",
        "tenant": "studio",
        "api": "v1alpha2",
        "job_id": record.job.job_id,
        "runtime": "sdxl",
        "task": "text-to-image",
        "outcome": "accepted",
    }
    assert {name: line[name] for name in expected} == expected


def test_the_line_of_a_refusal_has_its_code(cloud: Cloud, output: Output) -> None:
    post(V1, v1_body(runtime="none"))
    assert answered(output)["outcome"] == "unknown_runtime"


def test_the_line_of_a_status_says_where_the_job_stands(cloud: Cloud, output: Output) -> None:
    post(V1, v1_body(id="mine"))
    output()
    get("mine")
    [*_, line] = [line for line in lines(output) if line.get("message") == "answered"]
    assert (line["job_id"], line["outcome"]) == ("mine", "accepted")


def test_accepted_jobs_are_counted_by_runtime(cloud: Cloud, output: Output) -> None:
    post(V1, v1_body(id="mine"))
    post(V1, v1_body(id="mine"))
    [metric] = metrics(output)
    assert (metric["JobsAccepted"], metric["runtime"]) == ([1.0], "sdxl")
    [directive] = metric["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Darkroom", [["runtime"]])


def test_refused_requests_are_counted_by_code(cloud: Cloud, output: Output) -> None:
    post(V1, v1_body(id="a b"))
    [metric] = metrics(output)
    assert (metric["RequestsRefused"], metric["code"]) == ([1.0], "invalid_field")


def request(body: str) -> dict[str, Any]:
    given = event("POST", V1, body, headers={"Authorization": HEADER, "x-api-key": key(), "Accept": HEADER})
    return given | {"queryStringParameters": {"token": HEADER}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (json.dumps(v1_body(content={"prompt": PROMPT}, context=PROMPT)), 202),
        (json.dumps(v1_body(content=PROMPT)), 422),
        (json.dumps(v1_body(runtime=PROMPT)), 422),
        (json.dumps(v1_body(runtime="flux", content={"prompt": PROMPT})), 422),
        (json.dumps(v1_body() | {PROMPT: 1}), 422),
        (json.dumps({"prompt": PROMPT}), 422),
        (f'{{"prompt": "{PROMPT}", }}', 400),
        (PROMPT, 400),
    ],
)
def test_neither_key_nor_header_nor_prompt_is_logged(cloud: Cloud, output: Output, body: str, status: int) -> None:
    assert invoke(request(body)).status == status
    assert_says_nothing(output())


def test_a_stored_record_that_does_not_parse_is_logged_without_its_content(cloud: Cloud, output: Output) -> None:
    cloud.put(job_key("default", "mine", JobFact.REQUEST), json.dumps({"job": {"content": PROMPT}, "nonce": [PROMPT]}))
    answer = get("mine")
    assert (answer.status, answer.error["code"]) == (500, "internal")
    assert "ValidationError" not in json.dumps(answer.body)
    written = output()
    assert "ValidationError" in written
    assert_says_nothing(written)


def test_a_failure_of_aws_is_logged_without_the_request(cloud: Cloud, output: Output) -> None:
    with cloud.down("SNS"):
        assert invoke(request(json.dumps(v1_body(content={"prompt": PROMPT})))).status == 503
    written = output()
    assert "EndpointConnectionError" in written
    assert_says_nothing(written)


def assert_says_nothing(written: str) -> None:
    assert "answered" in written
    for secret in (SECRET, key(), PROMPT, HEADER):
        assert secret not in written
