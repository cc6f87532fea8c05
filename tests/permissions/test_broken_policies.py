"""A policy that lacks something, or allows too much, is felt: by the running system, or by the evaluator."""

import json
import uuid
from collections.abc import Iterator

import pytest

from darkroom_contract.names import Bucket, JobFact, job_key, registry_key
from darkroom_function import policy
from tests.permissions.documents import lessened, without
from tests.permissions.evaluator import Call, Decision, Policies, decide
from tests.permissions.service_calls import EVENTS, PODS, SERVICE_CALLS, service_call
from tests.permissions.system import (
    AGENT_ROLE,
    API_ROLE,
    COMPOSED,
    INPUT_BUCKETS,
    JANITOR_ROLE,
    KEDA_ROLE,
    MOUNTPOINT_ROLE,
    NAMES,
    POLICIES,
    QUEUES,
    RUNTIME,
    Customer,
    System,
)
from tests.permissions.traffic import Recorded, count

EVERYTHING = policy.document(policy.allow("Everything", ["*"], ["*"]))
NOTHING = policy.document()
JOBS, OUTPUTS, MODELS = (NAMES.bucket(bucket) for bucket in (Bucket.JOBS, Bucket.OUTPUTS, Bucket.MODELS))


@pytest.fixture
def customer(system: System, recorded: Recorded) -> Iterator[Customer]:
    customer = Customer(system)
    yield customer
    customer.close()


@pytest.fixture(scope="module")
def agent(system: System, recorded: Recorded) -> Iterator[None]:
    agent = system.start_agent()
    yield
    agent.stop()


# What the system makes of it


def deny_all(arn: str) -> str:
    refusal = {**policy.deny_insecure_transport("*", [arn, f"{arn}/*"]), "Condition": {}}
    return policy.document(refusal)


@pytest.mark.parametrize(
    ("kind", "owner", "document"),
    [
        ("identity", API_ROLE, without(COMPOSED.identity[API_ROLE], "PublishPrompts")),
        ("identity", API_ROLE, without(COMPOSED.identity[API_ROLE], "RecordJobs")),
        ("boundaries", API_ROLE, without(COMPOSED.boundaries[API_ROLE], "PublishPrompts")),
        ("resource", NAMES.topic_arn(NAMES.prompt_topic), deny_all(NAMES.topic_arn(NAMES.prompt_topic))),
        ("resource", NAMES.bucket_arn(JOBS), deny_all(NAMES.bucket_arn(JOBS))),
    ],
    ids=["identity, publish", "identity, record", "boundary", "topic", "bucket"],
)
def test_a_job_that_cannot_be_recorded_and_published_is_not_taken(
    system: System, customer: Customer, kind: str, owner: str, document: str
) -> None:
    before = count(system, NAMES.runtime_queue(RUNTIME))
    with system.proxy.under(system.proxy.policies.changed(kind, owner, document)):
        answer = customer.post("v1/jobs", {"id": uuid.uuid4().hex, "runtime": RUNTIME, "content": {"prompt": "a"}})
    assert answer.status_code >= 500
    assert count(system, NAMES.runtime_queue(RUNTIME)) == before


def test_who_may_not_list_takes_a_job_that_is_not_there_for_a_trouble(system: System, customer: Customer) -> None:
    unable = without(COMPOSED.identity[API_ROLE], "TellMissingFromForbidden")
    with system.proxy.under(system.proxy.policies.changed("identity", API_ROLE, unable)):
        assert customer.get(f"v1/jobs/{uuid.uuid4().hex}").status_code >= 500
    assert customer.get(f"v1/jobs/{uuid.uuid4().hex}").status_code == 404


def test_a_queue_that_does_not_take_from_the_topic_gets_nothing(system: System, customer: Customer) -> None:
    queue, dead_letters = NAMES.runtime_queue(RUNTIME), NAMES.dead_letter_queue(RUNTIME)
    before = count(system, dead_letters)
    with system.proxy.under(system.proxy.policies.changed("resource", NAMES.queue_arn(queue), NOTHING)):
        customer.submit()
    assert (count(system, queue), count(system, dead_letters)) == (0, before + 1)


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("kind", ["identity", "boundaries"])
def test_an_agent_that_may_not_read_an_input_fails_the_job(system: System, customer: Customer, kind: str) -> None:
    unable = without(getattr(COMPOSED, kind)[AGENT_ROLE], "ReadInputs")
    with system.proxy.under(system.proxy.policies.changed(kind, AGENT_ROLE, unable)):
        url = f"s3://{INPUT_BUCKETS[0]}/inputs/a.png"
        job = customer.submit(task="image-to-image", content={"init_images": [url]})
        end = customer.ends(job)[job]
    assert (end["status"], end["error"]["field"]) == ("failed", "content.init_images[0]")
    assert "403" in end["error"]["message"]


# What the evaluator makes of it


def call(principal: str, action: str, resource: str) -> Call:
    keys = {"aws:SecureTransport": "true", "aws:SourceArn": None, "s3:prefix": None}
    return Call(principal, action, resource, frozenset(keys.items()))


STRANGE = [
    ("iam:PutRolePolicy", AGENT_ROLE),
    ("iam:CreateRole", NAMES.role_arn("another")),
    ("sts:AssumeRole", NAMES.role_arn("operator")),
    ("s3:DeleteObject", NAMES.bucket_arn(JOBS, job_key("default", "1", JobFact.REQUEST))),
    ("s3:PutObject", NAMES.bucket_arn(JOBS, registry_key(RUNTIME))),
    ("s3:PutObject", NAMES.bucket_arn(MODELS, "checkpoints/a.safetensors")),
    ("s3:PutBucketPolicy", NAMES.bucket_arn(OUTPUTS)),
    ("s3:ListBucket", NAMES.bucket_arn(OUTPUTS)),
    ("s3:GetObject", NAMES.bucket_arn("somebody-elses", "a")),
    ("sqs:PurgeQueue", NAMES.queue_arn(QUEUES[0])),
    ("sqs:SendMessage", NAMES.queue_arn(QUEUES[0])),
    ("sqs:ReceiveMessage", NAMES.queue_arn(NAMES.result_topic)),
    ("sqs:ReceiveMessage", NAMES.queue_arn(NAMES.interruption_queue)),
    ("sns:Publish", NAMES.topic_arn("another")),
    ("sns:Subscribe", NAMES.topic_arn(NAMES.prompt_topic)),
    ("lambda:InvokeFunction", NAMES.api_function_arn),
    ("ec2:RunInstances", "arn:aws:ec2:us-east-1:123456789012:instance/*"),
]


@pytest.mark.parametrize("role", [API_ROLE, AGENT_ROLE, KEDA_ROLE, MOUNTPOINT_ROLE, JANITOR_ROLE])
def test_a_role_with_every_permission_stays_within_its_boundary(recorded: Recorded, role: str) -> None:
    too_broad = POLICIES.changed("identity", role, EVERYTHING)
    own = {each.call for each in recorded.ordinary if each.call.principal == role and each.decision is Decision.ALLOWED}
    assert own
    assert {decide(each, too_broad) for each in own} == {Decision.ALLOWED}
    assert {decide(call(role, *strange), too_broad) for strange in STRANGE} == {Decision.OUTSIDE_BOUNDARY}
    unbounded = Policies(too_broad.identity, {}, too_broad.resource)
    assert {decide(call(role, *strange), unbounded) for strange in STRANGE} == {Decision.ALLOWED}


@pytest.mark.parametrize("action", ["sqs:ReceiveMessage", "sqs:DeleteMessage"])
def test_an_agent_reaches_the_queue_of_its_own_runtime_alone(action: str) -> None:
    for runtime, decision in {RUNTIME: Decision.ALLOWED, f"{RUNTIME}-2": Decision.IMPLICIT_DENY}.items():
        queue = NAMES.queue_arn(NAMES.runtime_queue(runtime))
        assert decide(call(AGENT_ROLE, action, queue), COMPOSED) is decision


def test_a_permission_that_nobody_needs_is_found(recorded: Recorded) -> None:
    statements = json.loads(COMPOSED.identity[AGENT_ROLE])["Statement"]
    statements.append(policy.allow("Unneeded", ["s3:DeleteObject"], [NAMES.bucket_arn(OUTPUTS, "*")]))
    too_broad = POLICIES.changed("identity", AGENT_ROLE, policy.document(*statements))
    calls = {each.call for each in recorded.ordinary}
    unneeded = [
        part.what
        for part in lessened(too_broad, "identity", AGENT_ROLE)
        if all(decide(each, part.policies) is decide(each, too_broad) for each in calls)
    ]
    assert [what.rpartition(" ")[2] for what in unneeded] == ["Unneeded"]


def test_a_trust_for_another_service_account_keeps_the_own_pods_out() -> None:
    trust = COMPOSED.resource[AGENT_ROLE].replace(f'"{RUNTIME}"', '"another"')
    assert trust != COMPOSED.resource[AGENT_ROLE]
    own = [each for each, expected in SERVICE_CALLS if each.resource == AGENT_ROLE and expected]
    assert {each.principal for each in own} == {PODS}
    assert {decide(each, COMPOSED) for each in own} == {Decision.ALLOWED}
    assert {decide(each, COMPOSED.changed("resource", AGENT_ROLE, trust)) for each in own} == {Decision.IMPLICIT_DENY}


def test_a_queue_for_any_source_is_found() -> None:
    queue = NAMES.queue_arn(NAMES.runtime_queue(RUNTIME))
    stranger = service_call("sns.amazonaws.com", "sqs:SendMessage", queue, source=NAMES.topic_arn("another"))
    statements = [{**each, "Condition": {}} for each in json.loads(COMPOSED.resource[queue])["Statement"][:1]]
    open_to_all = COMPOSED.changed("resource", queue, policy.document(*statements))
    assert decide(stranger, COMPOSED) is Decision.IMPLICIT_DENY
    assert decide(stranger, open_to_all) is Decision.ALLOWED
    assert decide(service_call(EVENTS, "sqs:SendMessage", queue), open_to_all) is Decision.IMPLICIT_DENY
