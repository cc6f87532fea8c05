"""The evaluator against AWS's documentation of the evaluation logic."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.permissions.evaluator import Call, Decision, Policies, UnsupportedPolicy, Value, decide, is_arn_like

ROLE = "arn:aws:iam::111122223333:role/app"
OTHER_ROLE = "arn:aws:iam::111122223333:role/other"
BUCKET = "arn:aws:s3:::photos"
OBJECT = f"{BUCKET}/2024/a.png"
QUEUE = "arn:aws:sqs:eu-west-1:111122223333:jobs"
TOPIC = "arn:aws:sns:eu-west-1:111122223333:prompts"


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": statements})


def statement(
    effect: str = "Allow", action: Any = "s3:GetObject", resource: Any = OBJECT, **more: Any
) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def read(principal: str = ROLE, resource: str = OBJECT, action: str = "s3:GetObject", **keys: Value) -> Call:
    return Call(principal, action, resource, in_context(keys))


def in_context(keys: dict[str, Value]) -> frozenset[tuple[str, Value]]:
    return frozenset((key.replace("_", ":"), value) for key, value in keys.items())


def identity(*statements: dict[str, Any]) -> Policies:
    return Policies(identity={ROLE: document(*statements)})


def is_allowed(call: Call, policies: Policies) -> bool:
    return decide(call, policies) is Decision.ALLOWED


# The order of the policies

ALLOW, DENY = document(statement()), document(statement("Deny"))
GRANT = document(statement(Principal={"AWS": ROLE}))
REFUSE = document(statement("Deny", Principal="*"))
NOTHING = document()


@pytest.mark.parametrize(
    ("its_identity", "resource", "boundary", "decision"),
    [
        (NOTHING, NOTHING, None, Decision.IMPLICIT_DENY),
        (ALLOW, NOTHING, None, Decision.ALLOWED),
        (NOTHING, GRANT, None, Decision.ALLOWED),
        (ALLOW, REFUSE, None, Decision.EXPLICIT_DENY),
        (DENY, GRANT, None, Decision.EXPLICIT_DENY),
        (ALLOW, NOTHING, ALLOW, Decision.ALLOWED),
        (ALLOW, NOTHING, NOTHING, Decision.OUTSIDE_BOUNDARY),
        (ALLOW, NOTHING, DENY, Decision.EXPLICIT_DENY),
        # A boundary allows, and grants nothing.
        (NOTHING, NOTHING, ALLOW, Decision.IMPLICIT_DENY),
        # It limits what a resource grants to the role.
        (NOTHING, GRANT, NOTHING, Decision.OUTSIDE_BOUNDARY),
        (NOTHING, GRANT, ALLOW, Decision.ALLOWED),
    ],
)
def test_an_explicit_deny_decides_and_a_boundary_limits(
    its_identity: str, resource: str, boundary: str | None, decision: Decision
) -> None:
    boundaries = {} if boundary is None else {ROLE: boundary}
    assert decide(read(), Policies({ROLE: its_identity}, boundaries, {BUCKET: resource})) is decision


effects = st.sampled_from(["Allow", "Deny", None])


@given(effects, effects, effects)
def test_what_is_allowed_is_allowed_by_identity_or_resource_and_the_boundary_and_denied_by_none(
    by_identity: str | None, by_resource: str | None, by_boundary: str | None
) -> None:
    def of(effect: str | None, **more: Any) -> str:
        return document(*([statement(effect, **more)] if effect else []))

    policies = Policies(
        {ROLE: of(by_identity)}, {ROLE: of(by_boundary)}, {BUCKET: of(by_resource, Principal={"AWS": ROLE})}
    )
    effective = (by_identity, by_resource, by_boundary)
    expected = "Deny" not in effective and "Allow" in effective[:2] and by_boundary == "Allow"
    assert is_allowed(read(), policies) is expected


def test_a_role_has_its_own_policy_and_no_others() -> None:
    assert not is_allowed(read(OTHER_ROLE), identity(statement()))
    assert not is_allowed(read(OTHER_ROLE), Policies(resource={BUCKET: GRANT}))


def test_a_service_is_let_in_by_the_resource_alone() -> None:
    policies = Policies(
        resource={QUEUE: document(statement("Allow", "sqs:SendMessage", QUEUE, Principal={"Service": "sns"}))}
    )
    assert is_allowed(Call("sns", "sqs:SendMessage", QUEUE), policies)
    assert not is_allowed(Call("events", "sqs:SendMessage", QUEUE), policies)
    assert not is_allowed(Call(ROLE, "sqs:SendMessage", QUEUE), policies)


def test_a_trust_policy_speaks_of_its_role() -> None:
    trust = document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}})
    call = Call("lambda.amazonaws.com", "sts:AssumeRole", ROLE)
    assert is_allowed(call, Policies(resource={ROLE: trust}))
    assert not is_allowed(call, Policies(resource={OTHER_ROLE: trust}))


# Actions and resources


@pytest.mark.parametrize(
    ("action", "applies"),
    [
        ("s3:GetObject", True),
        ("S3:getobject", True),
        ("s3:Get*", True),
        ("s3:Get?bject", True),
        ("*", True),
        (["s3:PutObject", "s3:GetObject"], True),
        ("s3:GetObjectVersion", False),
        ("s3:GetObject?", False),
        ("sqs:*", False),
    ],
)
def test_actions_are_patterns_without_case(action: Any, applies: bool) -> None:
    assert is_allowed(read(), identity(statement(action=action))) is applies


@pytest.mark.parametrize(
    ("resource", "applies"),
    [
        (OBJECT, True),
        (f"{BUCKET}/*", True),
        (f"{BUCKET}/*.png", True),
        (f"{BUCKET}/2024/?.png", True),
        ("*", True),
        ("arn:*:s3:::photos/*", True),
        (BUCKET, False),
        (f"{BUCKET}/2024/A.png", False),
        ("arn:aws:s3:::Photos/*", False),
        ("arn:aws:s3:*:*:other/*", False),
    ],
)
def test_resources_are_patterns_with_case(resource: str, applies: bool) -> None:
    assert is_allowed(read(), identity(statement(resource=resource))) is applies


def test_a_wildcard_stays_within_its_part_of_an_arn() -> None:
    assert is_arn_like("arn:aws:sqs:*:111122223333:jobs", QUEUE)
    assert not is_arn_like("arn:aws:sqs:*:jobs:x", QUEUE)
    assert not is_arn_like("arn:aws:*:jobs", QUEUE)
    assert is_arn_like("arn:aws:logs:*:*:log-group:/a:*", "arn:aws:logs:eu-west-1:1:log-group:/a:log-stream:b")


def test_an_action_without_resources_is_allowed_on_all_alone() -> None:
    call = Call(ROLE, "xray:PutTraceSegments", "*")
    assert is_allowed(call, identity(statement(action="xray:*", resource="*")))
    assert not is_allowed(call, identity(statement(action="xray:*", resource="arn:aws:xray:eu-west-1:111122223333:*")))


def test_not_action_and_not_resource_are_everything_else() -> None:
    but_reading = {"Effect": "Allow", "NotAction": "s3:Get*", "Resource": "*"}
    assert not is_allowed(read(), identity(but_reading))
    assert is_allowed(read(action="s3:PutObject"), identity(but_reading))
    elsewhere = {"Effect": "Allow", "Action": "s3:*", "NotResource": f"{BUCKET}/*"}
    assert not is_allowed(read(), identity(elsewhere))
    assert is_allowed(read(resource="arn:aws:s3:::other/a"), identity(elsewhere))


texts = st.text(st.sampled_from("ab/:*?.["), max_size=6)


@given(texts)
def test_a_text_without_wildcards_matches_itself_alone(text: str) -> None:
    plain = text.replace("*", "").replace("?", "")
    assert is_arn_like(f"{BUCKET}/{plain}", f"{BUCKET}/{plain}")
    assert not is_arn_like(f"{BUCKET}/{plain}", f"{BUCKET}/{plain}b")


@given(texts, texts, texts)
def test_a_star_matches_whatever_stands_in_its_place(before: str, between: str, after: str) -> None:
    assert is_arn_like(f"{BUCKET}/{before}*{after}", f"{BUCKET}/{before}{between}{after}")


# Conditions


def holds(operator: str, wanted: Any, value: Value) -> bool:
    condition = {operator: {"aws:Key": wanted}}
    return is_allowed(read(AWS_key=value), identity(statement(Condition=condition)))


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["b", "a"], "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", "a", None, True),  # a negated operator holds where there is no key
        ("StringLike", "a*c?", "abbcd", True),
        ("StringLike", "a*", "b", False),
        ("StringNotLike", "a*", "b", True),
        ("ArnEquals", "arn:aws:sns:*:111122223333:prompts", TOPIC, True),
        ("ArnLike", TOPIC, TOPIC, True),
        ("ArnLike", TOPIC, TOPIC + "x", False),
        ("ArnEquals", TOPIC, None, False),
        ("ArnNotLike", TOPIC, QUEUE, True),
        ("Bool", "false", "false", True),
        ("Bool", "FALSE", "false", True),
        ("Bool", "false", "true", False),
        ("Bool", "false", None, False),
        ("BoolIfExists", "false", None, True),
        ("Null", "true", None, True),
        ("Null", "true", "a", False),
        ("Null", "false", "a", True),
        ("Null", "false", None, False),
        ("ForAllValues:StringEquals", ["a", "b"], ("a",), True),
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "c"), False),
        ("ForAllValues:StringEquals", ["a", "b"], None, True),  # vacuously
        ("ForAnyValue:StringEquals", ["a", "b"], ("a", "c"), True),
        ("ForAnyValue:StringEquals", ["a", "b"], ("c",), False),
        ("ForAnyValue:StringEquals", ["a", "b"], None, False),
        ("ForAllValues:StringNotEquals", ["a", "b"], ("a", "c"), False),
        ("ForAnyValue:StringNotEquals", ["a", "b"], ("a", "c"), True),
        ("ForAllValues:StringLike", "a*", ("ab", "ac"), True),
    ],
)
def test_a_condition_compares_a_key_of_the_request(operator: str, wanted: Any, value: Value, expected: bool) -> None:
    assert holds(operator, wanted, value) is expected


def test_every_key_and_operator_of_a_statement_has_to_hold() -> None:
    both = {"StringEquals": {"aws:a": "1", "aws:b": "2"}, "Bool": {"aws:c": "true"}}
    policies = identity(statement(Condition=both))
    assert is_allowed(read(aws_a="1", aws_b="2", aws_c="true"), policies)
    for wrong in ({"aws_a": "x"}, {"aws_b": None}, {"aws_c": "false"}):
        keys: dict[str, Value] = {"aws_a": "1", "aws_b": "2", "aws_c": "true", **wrong}
        assert not is_allowed(replace(read(), context=in_context(keys)), policies)


@given(st.sampled_from(["StringEquals", "StringLike", "ArnEquals", "ArnLike"]), texts, st.none() | texts)
def test_an_operator_and_its_negation_never_agree(operator: str, wanted: str, value: str | None) -> None:
    arn, other = f"{BUCKET}/{wanted}", None if value is None else f"{BUCKET}/{value}"
    negation = operator.replace("String", "StringNot").replace("Arn", "ArnNot")
    assert holds(operator, arn, other) is not holds(negation, arn, other)


# What is not known is never passed over

CALL = read(aws_SecureTransport="true")


@pytest.mark.parametrize(
    "policies",
    [
        identity(statement(Condition={"StringEquals": {"aws:Unheard": "a"}})),
        identity(statement(Condition={"StringSounds": {"aws:SecureTransport": "a"}})),
        identity(statement(Condition={"NumericLessThan": {"aws:SecureTransport": "1"}})),
        identity(statement(Condition={"NullIfExists": {"aws:SecureTransport": "true"}})),
        identity(statement(Condition={"StringEquals": {"aws:SecureTransport": "${aws:username}"}})),
        identity(statement(resource=f"{BUCKET}/${{aws:username}}/*")),
        identity(statement(resource="photos")),
        identity(statement(NotAction="s3:*")),
        identity(statement(Principal="*")),
        identity(statement(Unheard=1)),
        identity(statement("allow")),
        identity({"Effect": "Allow", "Action": "s3:*"}),
        Policies({ROLE: document(statement(), version="2008-10-17")}),
        Policies({ROLE: json.dumps({"Version": "2012-10-17", "Statement": statement()})}),
        Policies(resource={BUCKET: document(statement())}),
        Policies(resource={BUCKET: document(statement(Principal="*"))}),
        Policies(resource={BUCKET: document(statement(Principal={"AWS": "111122223333"}))}),
        Policies(
            resource={BUCKET: document(statement(Principal={"AWS": "arn:aws:sts::111122223333:assumed-role/app/s"}))}
        ),
        Policies(resource={BUCKET: document(statement(NotPrincipal={"AWS": ROLE}))}),
        Policies(resource={BUCKET: document(statement("Deny", Principal={"AWS": "arn:aws:iam::111122223333:root"}))}),
    ],
)
def test_what_is_not_evaluated_is_refused(policies: Policies) -> None:
    with pytest.raises(UnsupportedPolicy):
        decide(CALL, policies)
