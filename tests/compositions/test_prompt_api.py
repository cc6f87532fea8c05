import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from darkroom_contract import openapi
from darkroom_contract.names import api_key_prefix
from tests.compositions import specs
from tests.compositions.provider import Provider, of_kind, resource


@pytest.fixture
def api() -> Provider:
    return Provider("PromptApi", specs.prompt_api())


def deployments(provider: Provider) -> list[str]:
    return [key for key in provider.wanted().resources if key.startswith("deployment.")]


def at_stage(provider: Provider) -> dict[str, Any]:
    """What is observed of the only stage."""
    (stage,) = (item for item in provider.observed.values() if item["kind"] == "Stage")
    observed: dict[str, Any] = stage["status"]["atProvider"]
    return observed


def served(provider: Provider) -> str:
    """The document that the stage serves."""
    by_id = {item["status"]["atProvider"].get("id"): item for item in provider.observed.values()}
    deployment = by_id[at_stage(provider)["deploymentId"]]
    return str(deployment["status"]["atProvider"]["snapshot"])


@pytest.fixture
def new_document(api: Provider, monkeypatch: pytest.MonkeyPatch) -> str:
    """The API is up, and its document is about to change."""
    api.settle()
    document = json.dumps({"openapi": "3.0.1", "info": {"title": "changed", "version": "2"}})
    monkeypatch.setattr(openapi, "text", lambda invoke_arn, title: document)
    return document


def test_the_api_is_ready_once_its_document_is_served(api: Provider) -> None:
    while not api.wanted().ready:
        api.step()
    assert json.loads(served(api)) == resource(api.wanted(), "rest-api")["body"]
    made = {item["kind"] for item in api.observed.values()}
    assert {"MethodSettings", "UsagePlanKey", "Permission"} <= made
    assert api.wanted().status.api_url == "https://id-of-studio-api.rest-api.execute-api.eu-west-1.amazonaws.com/prod"


def test_a_new_document_is_deployed_only_once_the_api_has_it(api: Provider, new_document: str) -> None:
    api.settle()
    assert served(api) == new_document


def test_the_old_deployment_stays_until_the_stage_has_left_it(api: Provider, new_document: str) -> None:
    (old,) = [key for key in api.observed if key.startswith("deployment.")]
    seen = []
    while not api.wanted().ready:
        wanted = deployments(api)
        if at_stage(api)["deploymentId"].endswith(old):
            assert old in wanted
        seen.append(len(wanted))
        api.step()
    assert seen[0] == 1
    assert 2 in seen
    assert old not in deployments(api)
    assert len(deployments(api)) == 1


def test_the_stage_follows_the_reference_when_it_changes(api: Provider) -> None:
    api.settle()
    (stage,) = of_kind(api.wanted(), "Stage")
    assert stage["deploymentIdRef"]["policy"] == {"resolve": "Always"}


def test_the_api_is_not_ready_while_the_old_document_is_served(api: Provider, new_document: str) -> None:
    assert not api.wanted().ready
    assert api.settle().ready


def test_a_document_that_comes_back_is_served_again(
    api: Provider, new_document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = served(api)
    api.step()
    api.step()
    monkeypatch.setattr(openapi, "text", lambda invoke_arn, title: first)
    assert api.settle().ready
    assert served(api) == first
    assert len(deployments(api)) == 1


def test_a_tenant_that_is_removed_loses_its_key(api: Provider) -> None:
    api.settle()
    api.spec = specs.prompt_api(tenants=specs.CLUSTER.tenants[:1])
    left = api.settle().resources
    assert "api-key.default.value" in left
    assert not [key for key in left if ".acme" in key]


def test_tenants_whose_names_resemble_each_other_have_resources_of_their_own(api: Provider) -> None:
    api.spec["tenants"] = [{"name": "a"}, {"name": "key-a"}]
    composed = api.settle()
    plans = [entry.resource.name for entry in composed.resources.values() if entry.resource.kind == "UsagePlan"]
    assert len(set(plans)) == 2


def test_the_stage_lets_through_what_the_tenants_keys_may_send_together(api: Provider) -> None:
    api.spec["tenants"] = [
        {"name": "a", "rateLimit": 20, "burstLimit": 4000},
        {"name": "b", "rateLimit": 2.5, "burstLimit": 100, "keys": ["value", "second"]},
    ]
    (of_stage,) = of_kind(api.settle(), "MethodSettings")
    settings = of_stage["settings"]
    assert (settings["throttlingRateLimit"], settings["throttlingBurstLimit"]) == (25, 4200)
    api.spec["tenants"][1]["burstLimit"] = 2000
    (of_stage,) = of_kind(api.settle(), "MethodSettings")
    assert of_stage["settings"]["throttlingBurstLimit"] == 5000


def test_a_renamed_stage_is_left_only_when_every_key_works_on_the_new_one(api: Provider) -> None:
    api.settle()
    api.spec["api"] = {"stage": "live"}
    seen = []
    while not api.wanted().ready:
        composed = api.wanted()
        stages = {stage["stageName"] for stage in of_kind(composed, "Stage")}
        of_plans = {plan["apiStages"][0]["stage"] for plan in of_kind(composed, "UsagePlan")}
        assert of_plans <= {
            item["spec"]["forProvider"]["stageName"] for item in api.observed.values() if item["kind"] == "Stage"
        }
        in_use = {
            item["status"]["atProvider"]["apiStages"][0]["stage"]
            for item in api.observed.values()
            if item["kind"] == "UsagePlan"
        }
        throttled = {settings["stageName"] for settings in of_kind(composed, "MethodSettings")}
        assert in_use <= stages & throttled
        seen.append(stages)
        api.step()
    assert {"prod", "live"} in seen
    settled = api.settle()
    for kind in ("Stage", "MethodSettings"):
        assert [item["stageName"] for item in of_kind(settled, kind)] == ["live"]
    assert settled.status.api_url.endswith("/live")


def test_a_stage_is_renamed_together_with_a_new_document(api: Provider, new_document: str) -> None:
    api.spec["api"] = {"stage": "live"}
    assert api.settle().ready
    assert served(api) == new_document
    assert at_stage(api)["stageName"] == "live"


def test_an_api_that_is_made_anew_may_invoke_the_function_before_the_old_permission_goes(api: Provider) -> None:
    (old,) = of_kind(api.settle(), "Permission")
    api.observed["rest-api"]["status"]["atProvider"]["id"] = "another"
    both = of_kind(api.wanted(), "Permission")
    assert old in both
    assert len({permission["statementId"] for permission in both}) == 2
    new = next(permission for permission in both if permission != old)
    assert new["sourceArn"] == "arn:aws:execute-api:eu-west-1:111122223333:another/*/*/*"


@pytest.mark.parametrize("part", ["results-queue", "results-queue-policy", "results-subscription"])
def test_the_api_is_ready_only_when_a_notification_can_reach_the_results_queue(api: Provider, part: str) -> None:
    assert api.settle().ready
    api.observed[part]["status"]["conditions"][0]["status"] = "False"
    assert not api.wanted().ready


def test_api_gateway_is_given_no_models_and_no_response_without_a_status(api: Provider) -> None:
    document = resource(api.wanted(), "rest-api")["body"]
    validate(document)
    assert document["components"].keys() == {"securitySchemes"}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert operations
    for operation in operations:
        assert operation["security"] == [{"apiKey": []}]
        assert operation["x-amazon-apigateway-integration"]["uri"].endswith("function:studio-api/invocations")
        assert all(status.isdigit() for status in operation["responses"])
    assert "THROTTLED" in document["x-amazon-apigateway-gateway-responses"]


def test_a_change_of_words_or_models_deploys_nothing(api: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    api.settle()
    whole = openapi.document

    def reworded(invoke_arn: str, title: str) -> dict[str, Any]:
        document = whole(invoke_arn, title)
        document["info"]["description"] = "In other words."
        document["components"]["schemas"]["JobView"]["description"] = "In other words."
        return document

    before = deployments(api)
    monkeypatch.setattr(openapi, "document", reworded)
    assert deployments(api) == before
    assert api.wanted().ready


ENDPOINT = "https://example.com/darkroom"
WEBHOOK = {"name": "webhook", "protocol": "https", "endpoint": ENDPOINT}


def webhooks(api: Provider) -> dict[str, str]:
    """The endpoints of the subscriptions of others, by key."""
    wanted = api.wanted()
    return {key: resource(wanted, key)["endpoint"] for key in wanted.resources if key.startswith("subscriber.")}


@pytest.mark.parametrize(
    ("observed", "state"),
    [
        ({"atProvider": {"pendingConfirmation": True}}, "pending"),
        ({"atProvider": {"pendingConfirmation": False}}, "confirmed"),
        ({"conditions": [{"type": "Synced", "status": "False"}]}, "missing"),
        ({}, "missing"),
    ],
)
def test_a_subscriber_keeps_nobody_waiting_and_the_status_says_how_it_stands(
    api: Provider, observed: dict[str, Any], state: str
) -> None:
    api.spec["subscribers"] = [WEBHOOK]
    api.settle()
    (key,) = webhooks(api)
    status = api.observed[key]["status"]
    api.observed[key]["status"] = {**status, **observed} if observed else {}
    composed = api.wanted()
    assert composed.ready
    assert [(item.name, item.state) for item in composed.status.subscribers] == [("webhook", state)]


def unconfirmed(provider: Provider, endpoint: str) -> None:
    """SNS waits for the endpoint's confirmation."""
    for item in provider.observed.values():
        if item["spec"].get("forProvider", {}).get("endpoint") == endpoint:
            item["status"]["atProvider"]["pendingConfirmation"] = True


def test_a_subscriber_that_moved_is_told_at_the_old_place_until_it_has_confirmed_the_new_one(api: Provider) -> None:
    api.spec["subscribers"] = [WEBHOOK]
    api.settle()
    api.spec["subscribers"] = [{**WEBHOOK, "endpoint": f"{ENDPOINT}/2"}]
    both = [ENDPOINT, f"{ENDPOINT}/2"]
    assert sorted(webhooks(api).values()) == both
    for _ in range(3):
        api.step()
        unconfirmed(api, f"{ENDPOINT}/2")
        assert sorted(webhooks(api).values()) == both
        assert api.wanted().ready
    api.settle()
    assert list(webhooks(api).values()) == [f"{ENDPOINT}/2"]


def test_a_subscriber_that_is_removed_is_told_no_more_while_another_has_yet_to_confirm(api: Provider) -> None:
    api.spec["subscribers"] = [WEBHOOK, {**WEBHOOK, "name": "gallery", "endpoint": f"{ENDPOINT}/2"}]
    api.settle()
    unconfirmed(api, f"{ENDPOINT}/2")
    del api.spec["subscribers"][0]
    assert list(webhooks(api).values()) == [f"{ENDPOINT}/2"]


def test_a_subscriber_of_another_name_keeps_its_subscription(api: Provider) -> None:
    """SNS has one for an endpoint, which would go with the object of the old name."""
    api.spec["subscribers"] = [WEBHOOK]
    api.settle()
    before = webhooks(api)
    api.spec["subscribers"] = [{**WEBHOOK, "name": "gallery"}]
    assert webhooks(api) == before
    settled = api.settle()
    assert webhooks(api) == before
    assert [item.name for item in settled.status.subscribers] == ["gallery"]


def test_subscribers_may_change_places(api: Provider) -> None:
    other = {**WEBHOOK, "name": "gallery", "endpoint": f"{ENDPOINT}/2"}
    api.spec["subscribers"] = [WEBHOOK, other]
    api.settle()
    before = webhooks(api)
    unconfirmed(api, ENDPOINT)
    unconfirmed(api, f"{ENDPOINT}/2")
    api.spec["subscribers"] = [{**WEBHOOK, "endpoint": f"{ENDPOINT}/2"}, {**other, "endpoint": ENDPOINT}]
    assert webhooks(api) == before
    labels = {key: api.wanted().resources[key].resource.manifest()["metadata"]["labels"] for key in before}
    names = {webhooks(api)[key]: label["darkroom.dev/subscriber"] for key, label in labels.items()}
    assert names == {ENDPOINT: "gallery", f"{ENDPOINT}/2": "webhook"}


def test_the_api_is_not_ready_while_its_function_has_the_old_image(api: Provider) -> None:
    api.settle()
    api.spec["image"] = specs.IMAGE.replace("0123", "abcd")
    assert not api.wanted().ready
    assert api.settle().ready


def test_a_key_works_until_it_is_dropped_while_another_takes_its_place(api: Provider) -> None:
    def keys() -> list[str]:
        return [key for key in api.wanted().resources if key.startswith(("api-key.", "usage-plan-key."))]

    api.spec["tenants"] = [{"name": "acme"}]
    api.settle()
    before = keys()
    api.spec["tenants"] = [{"name": "acme", "keys": ["value", "second"]}]
    assert set(before) < set(keys())
    assert api.settle().ready
    api.spec["tenants"] = [{"name": "acme", "keys": ["second"]}]
    assert not set(before) & set(keys())
    assert api.settle().ready


@pytest.mark.parametrize(
    ("value", "wrong"), [("made-up-by-aws", ["acme.value"]), (api_key_prefix("acme") + "0" * 30, [])]
)
def test_a_key_that_the_api_would_refuse_is_named_and_the_api_not_ready(
    api: Provider, value: str, wrong: list[str]
) -> None:
    api.spec["tenants"] = [{"name": "acme"}]
    api.settle()
    api.observed["usage-plan-key.acme.value"]["status"]["atProvider"]["value"] = value
    composed = api.wanted()
    assert list(composed.status.wrong_keys) == wrong
    assert composed.ready is not bool(wrong)
    assert [key for key in wrong if key in (composed.problem or "")] == wrong
    assert value not in f"{composed.status} {composed.problem}"


def test_without_somebody_to_tell_there_are_no_alarms(api: Provider) -> None:
    assert not of_kind(api.settle(), "MetricAlarm")
    api.spec["alarms"] = {"topicArn": "arn:aws:sns:eu-west-1:111122223333:ops"}
    assert len(of_kind(api.settle(), "MetricAlarm")) == 4
    del api.spec["alarms"]
    assert not of_kind(api.settle(), "MetricAlarm")
