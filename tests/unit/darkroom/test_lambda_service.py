"""The local Lambda: environments come as they are needed, fail alone, and go."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from darkroom.local.lambda_service import MAX_PAYLOAD_BYTES, InvocationFailed, LambdaService, PayloadTooLarge
from darkroom.local.lambda_service import TooManyRequests as Throttled
from tests.unit.darkroom.functions import listener, running

PATIENCE = 60
HELLO = {"body": "hello"}
ANSWER = {"statusCode": 200, "body": "5"}


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LambdaService]:
    with running(tmp_path_factory.mktemp("logs")) as function:
        yield function


def test_an_idle_environment_is_used_again(function: LambdaService) -> None:
    assert function.invoke(HELLO, PATIENCE) == ANSWER
    before = function.environments
    assert function.invoke(HELLO, PATIENCE) == ANSWER
    assert function.environments == before


def test_many_invocations_at_once_share_a_few_environments(function: LambdaService) -> None:
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda number: function.invoke({"body": "x" * number}, PATIENCE), range(20)))
    assert [answer["body"] for answer in answers] == [str(number) for number in range(20)]
    assert 1 < len(function.environments) <= 4


@pytest.mark.parametrize("order", ["raise", "end"])
def test_an_error_is_the_invocations_own(function: LambdaService, order: str) -> None:
    with pytest.raises(InvocationFailed):
        function.invoke({"body": order}, PATIENCE)
    assert function.invoke(HELLO, PATIENCE) == ANSWER


def test_a_payload_of_lambdas_limit_is_taken_and_one_byte_more_is_not(function: LambdaService) -> None:
    text = "x" * (MAX_PAYLOAD_BYTES - len(json.dumps({"body": ""})))
    assert function.invoke({"body": text}, PATIENCE)["body"] == str(len(text))
    with pytest.raises(PayloadTooLarge):
        function.invoke({"body": text + "x"}, PATIENCE)


def test_a_function_past_its_own_timeout_is_ended(tmp_path: Path) -> None:
    with running(tmp_path, timeout=1) as function, listener() as (call, _):
        with pytest.raises(InvocationFailed):
            function.invoke({"body": call}, PATIENCE)
        assert function.invoke(HELLO, PATIENCE) == ANSWER


def test_an_environment_that_dies_at_init_fails_what_it_was_started_for(tmp_path: Path) -> None:
    with running(tmp_path, DIES_AT_INIT="1") as function:
        for _ in range(2):
            with pytest.raises(InvocationFailed, match="could not start"):
                function.invoke(HELLO, PATIENCE)
    assert "something wrong with the image" in (tmp_path / "lambda.log").read_text()


def test_more_invocations_than_the_functions_concurrency_are_throttled(tmp_path: Path) -> None:
    with running(tmp_path, concurrency=1) as function, listener() as (call, server), ThreadPoolExecutor(1) as other:
        first = other.submit(function.invoke, {"body": call}, PATIENCE)
        connection, _ = server.accept()
        with pytest.raises(Throttled):
            function.invoke(HELLO, PATIENCE)
        connection.close()
        assert first.result()["statusCode"] == 200
        assert function.invoke(HELLO, PATIENCE) == ANSWER


def test_a_stop_fails_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    with listener() as (call, server), ThreadPoolExecutor(1) as other:
        with running(tmp_path) as function:
            first = other.submit(function.invoke, {"body": call}, PATIENCE)
            connection, _ = server.accept()
            environments = function.environments
        with connection, pytest.raises(InvocationFailed):  # else the function would end with its caller's connection
            first.result()
        with pytest.raises(InvocationFailed):
            function.invoke(HELLO, PATIENCE)
        assert not any(environment.running for environment in environments)
