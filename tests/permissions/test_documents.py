"""Every document says what AWS understands, and names its resources."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.permissions import iam_reference
from tests.permissions.system import COMPOSED

STATEMENTS: dict[str, dict[str, Any]] = {
    f"{owner.rpartition(':')[2]} {kind} {statement['Sid']}": statement
    for kind in ("identity", "boundaries", "resource")
    for owner, document in getattr(COMPOSED, kind).items()
    for statement in json.loads(document)["Statement"]
}


def actions_of(statement: dict[str, Any]) -> Iterator[str]:
    """Its actions, but not those that are a whole service's."""
    actions = statement["Action"]
    yield from (action for action in ([actions] if isinstance(actions, str) else actions) if not action.endswith(":*"))


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_action_exists(name: str) -> None:
    statement = STATEMENTS[name]
    assert not [action for action in actions_of(statement) if not iam_reference.exists(action)]


@pytest.mark.parametrize("name", [name for name, statement in STATEMENTS.items() if "Resource" in statement])
def test_every_action_has_a_resource_and_every_resource_an_action(name: str) -> None:
    statement = STATEMENTS[name]
    actions, resources = list(actions_of(statement)), statement["Resource"]
    if resources == ["*"]:
        return
    assert not [action for action in actions if not any(iam_reference.takes(action, arn) for arn in resources)]
    assert not [arn for arn in resources if actions and not any(iam_reference.takes(it, arn) for it in actions)]


@pytest.mark.parametrize("name", [name for name, statement in STATEMENTS.items() if "Condition" in statement])
def test_every_condition_asks_for_a_key_of_every_action(name: str) -> None:
    statement = STATEMENTS[name]
    keys = [key for block in statement["Condition"].values() for key in block]
    assert keys
    assert not [(it, key) for it in actions_of(statement) for key in keys if not iam_reference.knows(it, key)]


def test_no_role_may_do_a_thing_to_everything_that_it_may_do_to_one_thing() -> None:
    too_much = [
        (owner, action)
        for owner, document in COMPOSED.identity.items()
        for statement in json.loads(document)["Statement"]
        if "*" in statement["Resource"]
        for action in statement["Action"]
        if iam_reference.resource_types(action)
    ]
    assert not too_much
