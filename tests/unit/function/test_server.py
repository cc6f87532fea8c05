"""The function as Crossplane sees it: real messages to a real server."""

from typing import Any

import pytest
from crossplane.function.proto.v1 import run_function_pb2 as pb

from darkroom_function import conditions, server
from tests.compositions import specs
from tests.compositions.cases import Case, cases
from tests.compositions.provider import Provider
from tests.unit.function.crossplane_core import Core, request


def settled(kind: str) -> Provider:
    provider = Provider(kind, specs.EXAMPLES[kind])
    provider.settle()
    return provider


def waiting_for(core: Core, provider: Provider) -> str:
    return core.run(provider.kind, provider.spec, provider.observed).condition(conditions.READY).message


def set_condition(provider: Provider, key: str, **condition: str) -> None:
    known = provider.observed[key]["status"]["conditions"]
    known[:] = [item for item in known if item["type"] != condition["type"]] + [condition]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_case_is_answered_as_it_is_composed(core: Core, case: Case) -> None:
    composite, composed = case.composite, case.composed()
    answer = core.run(composite["kind"], composite["spec"], case.observed)
    assert answer.resources == {key: entry.resource.manifest() for key, entry in composed.resources.items()}
    assert answer.readiness == {
        key: pb.READY_TRUE if entry.ready else pb.READY_FALSE for key, entry in composed.resources.items()
    }
    assert answer.ready == (pb.READY_TRUE if composed.ready else pb.READY_FALSE)
    assert answer.status == composed.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert not answer.message.results


@pytest.mark.parametrize("kind", specs.EXAMPLES)
def test_a_composite_is_ready_when_all_of_it_is(core: Core, kind: str) -> None:
    provider = settled(kind)
    answer = core.run(kind, provider.spec, provider.observed)
    assert answer.ready == pb.READY_TRUE
    assert answer.condition(conditions.READY).status == pb.STATUS_CONDITION_TRUE
    assert answer.condition(conditions.SYNCED).status == pb.STATUS_CONDITION_TRUE


def test_a_wrong_spec_is_a_fatal_result_that_names_the_field(core: Core) -> None:
    answer = core.run("ModelRuntime", specs.model_runtime() | {"engine": "diffusers"}, {})
    assert answer.fatal is not None
    assert answer.fatal.startswith("spec.engine: ")
    assert not answer.resources


def test_a_wrong_spec_is_said_where_people_look(core: Core) -> None:
    answer = core.run("ModelRuntime", specs.model_runtime() | {"engine": "diffusers"}, {})
    said = answer.condition(conditions.READY)
    assert (said.status, said.reason) == (pb.STATUS_CONDITION_FALSE, "Invalid")
    assert said.message == answer.fatal


def test_an_unknown_kind_is_a_fatal_result(core: Core) -> None:
    assert (core.run("Gallery", {}).fatal or "").startswith("kind: Gallery is not ")


def test_an_answer_carries_the_tag_of_its_request(core: Core) -> None:
    assert core.run("Storage", specs.storage()).message.meta.tag == "a-tag"


@pytest.mark.parametrize("broken", [pb.RunFunctionRequest(), request("Storage", {"cluster": "studio"}, {})])
def test_no_request_is_answered_with_nothing(core: Core, broken: pb.RunFunctionRequest) -> None:
    answer = core.send(broken)
    assert answer.fatal
    assert not answer.resources


def test_a_defect_is_a_fatal_result_and_its_place_is_logged_without_what_was_observed(
    core: Core, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defective(_kind: str, _spec: dict[str, Any], observed: dict[str, Any]) -> None:
        value = observed["usage-plan-key"]["status"]["atProvider"]["value"]
        raise KeyError(value)

    monkeypatch.setattr(server, "compose", defective)
    observed = {"usage-plan-key": {"status": {"atProvider": {"value": "a-tenants-key"}}}}
    answer = core.run("PromptApi", specs.prompt_api(), observed)
    assert answer.fatal is not None
    assert "KeyError" in answer.fatal
    assert not answer.resources
    said = answer.condition(conditions.READY)
    assert (said.status, said.reason) == (pb.STATUS_CONDITION_FALSE, "Defect")
    assert said.message == answer.fatal
    log = capsys.readouterr().out
    assert "test_server.py" in log
    assert '"composite": "studio"' in log
    assert "a-tenants-key" not in log + answer.fatal


def test_it_is_said_what_is_waited_for(core: Core) -> None:
    provider = settled("ModelRuntime")
    set_condition(provider, "queue", type="Ready", status="False", reason="Creating")
    set_condition(provider, "role", type="Ready", status="False", reason="Creating")
    assert waiting_for(core, provider) == "waiting for queue, role"


def test_of_many_that_are_waited_for_a_few_are_named(core: Core) -> None:
    message = waiting_for(core, Provider("Storage", specs.storage()))
    assert message.startswith("waiting for models, models-public-access-block, ")
    assert message.endswith(" more")
    assert message.count(",") == 10


def test_it_is_said_that_a_change_is_waited_for_when_every_resource_is_ready(core: Core) -> None:
    provider = settled("ModelRuntime")
    provider.spec = provider.spec | {"checkpoint": "another.safetensors"}
    assert waiting_for(core, provider) == "waiting until what was changed is observed in AWS"


def test_what_aws_refuses_is_said_with_its_words(core: Core) -> None:
    provider = settled("ModelRuntime")
    set_condition(
        provider,
        "subscription",
        type="Synced",
        status="False",
        reason="ReconcileError",
        message="update failed:\n  AuthorizationError: not allowed",
    )
    refused = core.run(provider.kind, provider.spec, provider.observed).condition(conditions.SYNCED)
    assert refused.status == pb.STATUS_CONDITION_FALSE
    assert refused.message == "subscription (TopicSubscription): update failed: AuthorizationError: not allowed"


@pytest.mark.parametrize("kind", ["LastAsyncOperation", "Ready"])
def test_what_fails_later_is_said_too(core: Core, kind: str) -> None:
    provider = settled("ModelRuntime")
    set_condition(provider, "role", type=kind, status="False", reason="Failed", message="no such policy")
    refused = core.run(provider.kind, provider.spec, provider.observed).condition(conditions.SYNCED)
    assert refused.message == "role (Role): no such policy"


EMPTY = (
    "cannot resolve references: mg.Spec.ForProvider.RestAPIID: referenced field was empty "
    "(referenced resource may not yet be ready)"
)


def refuse(provider: Provider, key: str, message: str, reason: str = "ReconcileError") -> None:
    set_condition(provider, key, type="Synced", status="False", reason=reason, message=message)


def refusals(core: Core, provider: Provider) -> str:
    return core.run(provider.kind, provider.spec, provider.observed).condition(conditions.SYNCED).message


def test_what_depends_on_a_refused_resource_is_left_out_beside_it(core: Core) -> None:
    provider = settled("PromptApi")
    stage = next(key for key in provider.observed if key.startswith("stage."))
    refuse(provider, stage, EMPTY)
    assert refusals(core, provider) == f"{stage} (Stage): {EMPTY}"
    refuse(provider, "rest-api", "create failed: not allowed")
    assert refusals(core, provider) == "rest-api (RestAPI): create failed: not allowed"


def test_what_is_paused_is_said_to_be(core: Core) -> None:
    provider = settled("ModelRuntime")
    refuse(provider, "queue", "Reconciliation is paused via the pause annotation", reason="ReconcilePaused")
    assert refusals(core, provider) == "queue (Queue): is paused (annotation crossplane.io/paused)"


def test_of_a_key_that_cannot_change_it_is_said_what_to_do_and_not_its_value(core: Core) -> None:
    provider = Provider("PromptApi", specs.prompt_api() | {"tenants": [{"name": "studio"}]})
    provider.settle()
    words = (
        "update failed: refuse to update the external resource because the following update requires replacing it: "
        'cannot change the value of the argument "value" from "an-old-key" to "a-new-key"'
    )
    refuse(provider, "api-key.studio.value", words)
    assert refusals(core, provider) == (
        "api-key.studio.value (APIKey): The key studio.value cannot change. "
        "Add another field to Secret api-key-studio, and list it in keys"
    )


def test_of_a_topic_that_is_not_there_it_is_said_who_makes_it(core: Core) -> None:
    provider = settled("ModelRuntime")
    refuse(provider, "subscription", "create failed: operation error SNS: Subscribe, NotFound: Topic does not exist")
    assert refusals(core, provider).endswith("the topic does not exist yet: the PromptApi of the cluster makes it")


ALARMS = {"alarms": {"topicArn": "arn:aws:sns:eu-west-1:111122223333:ops"}}
ASIDE = {
    "alarm": ("ModelRuntime", specs.model_runtime() | ALARMS),
    "subscriber": (
        "PromptApi",
        specs.prompt_api() | {"subscribers": [{"name": "ops", "protocol": "email", "endpoint": "ops@example.com"}]},
    ),
}


@pytest.mark.parametrize("aside", ASIDE)
def test_what_nothing_waits_for_is_said_when_it_is_refused(core: Core, aside: str) -> None:
    kind, spec = ASIDE[aside]
    provider = Provider(kind, spec)
    provider.settle()
    key = next(key for key in provider.observed if key.startswith(f"{aside}."))
    set_condition(provider, key, type="Ready", status="False", reason="Creating")
    set_condition(provider, key, type="Synced", status="False", reason="x", message="create failed: limit exceeded")
    answer = core.run(kind, spec, provider.observed)
    assert answer.ready == pb.READY_TRUE
    assert answer.condition(conditions.READY).status == pb.STATUS_CONDITION_TRUE
    refused = answer.condition(conditions.SYNCED)
    assert refused.status == pb.STATUS_CONDITION_FALSE
    assert refused.message.startswith(f"{key} (")
    assert refused.message.endswith("): create failed: limit exceeded")


def test_a_subscriber_that_has_yet_to_confirm_is_no_refusal(core: Core) -> None:
    provider = Provider(*ASIDE["subscriber"])
    provider.settle()
    key = next(key for key in provider.observed if key.startswith("subscriber."))
    provider.observed[key]["status"]["atProvider"]["pendingConfirmation"] = True
    answer = core.run(provider.kind, provider.spec, provider.observed)
    assert answer.status["subscribers"] == [{"name": "ops", "state": "pending"}]
    assert answer.condition(conditions.SYNCED).status == pb.STATUS_CONDITION_TRUE


def test_a_refusal_reads_the_same_at_every_attempt(core: Core) -> None:
    def refused(identifier: str) -> bytes:
        provider = settled("ModelRuntime")
        message = (
            "operation error S3: PutObject, https response error StatusCode: 403, "
            f"RequestID: {identifier}, HostID: {identifier}/{identifier}=, api error AccessDenied: Access Denied"
        )
        set_condition(provider, "registry-entry", type="Synced", status="False", reason="x", message=message)
        condition = core.run(provider.kind, provider.spec, provider.observed).condition(conditions.SYNCED)
        assert condition.message.endswith("StatusCode: 403, api error AccessDenied: Access Denied")
        return condition.SerializeToString()

    assert refused("7Q3R") == refused("ZZ81")


def test_long_and_many_refusals_are_cut(core: Core) -> None:
    provider = settled("Storage")
    for key in provider.observed:
        set_condition(provider, key, type="Synced", status="False", reason="x", message="no " * 1000)
    message = core.run(provider.kind, provider.spec, provider.observed).condition(conditions.SYNCED).message
    assert message.endswith(f"; {len(provider.observed) - 5} more")
    assert len(message) < 2500


def test_an_answer_is_the_same_while_nothing_changes(core: Core) -> None:
    provider = Provider("PromptApi", specs.prompt_api())
    for _ in range(3):
        provider.step()
        once, again = (core.run(provider.kind, provider.spec, provider.observed).message for _ in range(2))
        assert once == again


def test_a_hundred_tenants_fit_into_a_message(core: Core) -> None:
    spec = specs.prompt_api() | {"tenants": [{"name": f"tenant-{number}"} for number in range(100)]}
    provider = Provider("PromptApi", spec)
    provider.settle()
    # Kubernetes keeps about as much beside an object as there is in it: who manages which field.
    observed = {
        key: {**item, "metadata": {**item["metadata"], "managedFields": [{"fieldsV1": item["spec"]}] * 3}}
        for key, item in provider.observed.items()
    }
    assert core.run("PromptApi", spec, observed).ready == pb.READY_TRUE
