"""How long an AWS call is repeated."""

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from darkroom_agent import aws
from darkroom_agent.aws import Patience
from darkroom_agent.clock import Clock
from darkroom_agent.errors import AwsUnavailableError
from darkroom_agent.lifecycle import Lifecycle


class Failing:
    """A call that fails so many times with a code."""

    def __init__(self, code: str, status: int, times: int) -> None:
        self.calls = 0
        self._times = times
        self._error = ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Publish")  # type: ignore[typeddict-item]

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return "answer"


def patience(*, is_held: bool = True, is_out_of_time: bool = False) -> Callable[[Failing], str]:
    lifecycle = Lifecycle(0, Clock())
    if is_out_of_time:
        lifecycle.stop()
    return Patience(lifecycle, lambda: is_held)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InternalError", 500),
        ("SlowDown", 503),
        ("Throttling", 400),
        ("RequestTimeout", 400),
        ("ExpiredToken", 400),
        ("AccessDenied", 403),
        ("NoSuchBucket", 404),
    ],
)
def test_what_may_pass_is_repeated(code: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "_FIRST_PAUSE_SECONDS", 0)
    call = Failing(code, status, times=2)
    assert patience()(call) == "answer"
    assert call.calls == 3


@pytest.mark.parametrize("code", ["InvalidParameter", "ValidationError", "EntityTooLarge"])
def test_what_aws_will_never_take_is_not_repeated(code: str) -> None:
    call = Failing(code, 400, times=1)
    with pytest.raises(AwsUnavailableError):
        patience()(call)
    assert call.calls == 1


@pytest.mark.parametrize("trouble", [{"is_held": False}, {"is_out_of_time": True}])
def test_nothing_is_repeated_without_the_message_or_the_time(trouble: dict[str, bool]) -> None:
    call = Failing("InternalError", 500, times=1)
    with pytest.raises(AwsUnavailableError):
        patience(**trouble)(call)
    assert call.calls == 1


def test_an_object_that_is_there_is_an_answer() -> None:
    with pytest.raises(ClientError):
        patience()(Failing("PreconditionFailed", 412, times=1))
