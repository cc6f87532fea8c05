"""How the function starts."""

import os
import subprocess
import sys
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError, ReadTimeoutError

from darkroom_api.errors import refusal
from darkroom_contract.errors import ErrorCode
from tests.unit.api.conftest import REGION

STARTED = "import darkroom_api.handler as h; print(h.service.cache_info().currsize)"


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PROMPT_", "OUTPUT_"))}
    return subprocess.run(
        [sys.executable, "-c", STARTED], env=clean | environment, capture_output=True, text=True, check=False
    )


def test_the_handler_is_imported_without_any_environment() -> None:
    assert start().stdout.strip() == "0"


def test_lambda_has_everything_made_before_the_first_request() -> None:
    started = start(
        AWS_LAMBDA_FUNCTION_NAME="api",
        AWS_DEFAULT_REGION=REGION,
        PROMPT_TOPIC_ARN="arn:aws:sns:eu-west-1:123456789012:prompts",
        OUTPUT_BUCKET="outputs",
    )
    assert started.stdout.strip() == "1"


def test_lambda_is_told_which_variables_are_missing() -> None:
    started = start(AWS_LAMBDA_FUNCTION_NAME="api", OUTPUT_BUCKET="outputs")
    assert started.returncode != 0
    assert "PROMPT_TOPIC_ARN" in started.stderr


def client_error(code: str, status: int, **metadata: object) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, **metadata}}
    return ClientError(response, "Publish")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (client_error("Throttling", 400, MaxAttemptsReached=True), ErrorCode.UNAVAILABLE),
        (client_error("Throttling", 400, RetryQuotaReached=True), ErrorCode.UNAVAILABLE),
        (client_error("SlowDown", 503), ErrorCode.UNAVAILABLE),
        (client_error("InternalError", 500), ErrorCode.UNAVAILABLE),
        (client_error("ExpiredToken", 403), ErrorCode.UNAVAILABLE),
        (client_error("InvalidClientTokenId", 403), ErrorCode.UNAVAILABLE),
        (NoCredentialsError(), ErrorCode.UNAVAILABLE),
        (ReadTimeoutError(endpoint_url="https://sns"), ErrorCode.UNAVAILABLE),
        (client_error("AuthorizationError", 403), ErrorCode.INTERNAL),
        (client_error("InvalidParameter", 400), ErrorCode.INTERNAL),
        (ParamValidationError(report="a mistake of ours"), ErrorCode.INTERNAL),
        (ZeroDivisionError("division by zero"), ErrorCode.INTERNAL),
    ],
)
def test_a_failure_of_aws_that_will_pass_is_told_from_a_mistake(error: Exception, code: ErrorCode) -> None:
    refused = refusal(error)
    assert refused.error.code is code
    assert (refused.retry_after is not None) is (code is ErrorCode.UNAVAILABLE)
    assert str(error) not in refused.error.message
