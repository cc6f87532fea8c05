"""Everything works with exactly the composed policies, and nothing in them is without need."""

from collections.abc import Iterator

import pytest

from darkroom_contract.names import Bucket
from tests.permissions.documents import Lessened, lessened
from tests.permissions.evaluator import Call, Decision, Policies, decide
from tests.permissions.service_calls import SERVICE_CALLS
from tests.permissions.system import (
    AGENT_ROLE,
    API_ROLE,
    COMPOSED,
    JANITOR_ROLE,
    KEDA_ROLE,
    MOUNTPOINT_ROLE,
    NAMES,
    POLICIES,
    System,
)
from tests.permissions.traffic import Recorded

#: Whose ordinary life is recorded.
ROLES = (API_ROLE, AGENT_ROLE, KEDA_ROLE, MOUNTPOINT_ROLE, JANITOR_ROLE)


def parts() -> Iterator[Lessened]:
    for kind, owners in {"identity": ROLES, "boundaries": ROLES, "resource": sorted(COMPOSED.resource)}.items():
        for owner in owners:
            yield from lessened(POLICIES, kind, owner)


def is_allowed(call: Call, policies: Policies) -> bool:
    return decide(call, policies) is Decision.ALLOWED


@pytest.fixture(scope="module")
def calls(recorded: Recorded) -> set[Call]:
    """All that was ever asked, by roles and by services."""
    decided = {decided.call for decided in (*recorded.ordinary, *recorded.hostile)}
    return decided | {call for call, _ in SERVICE_CALLS}


def test_everything_that_is_done_is_allowed(recorded: Recorded, system: System) -> None:
    denied = {
        (decided.call.principal, decided.call.action, decided.call.resource)
        for decided in recorded.ordinary
        if decided.decision is not Decision.ALLOWED
    }
    # An input that is not there: whoever may not list a bucket is not told, and the job fails all the same.
    assert denied == {(AGENT_ROLE, "s3:ListBucket", NAMES.bucket_arn(NAMES.bucket(Bucket.OUTPUTS)))}
    assert not system.proxy.unmapped


@pytest.mark.parametrize("part", list(parts()), ids=lambda part: part.what)
def test_every_statement_action_resource_and_condition_is_needed(calls: set[Call], part: Lessened) -> None:
    assert any(is_allowed(call, POLICIES) is not is_allowed(call, part.policies) for call in calls)


@pytest.mark.parametrize(("call", "expected"), SERVICE_CALLS, ids=lambda value: getattr(value, "principal", None))
def test_services_may_do_what_is_theirs_alone(call: Call, expected: bool) -> None:
    assert is_allowed(call, COMPOSED) is expected
