import json

import pytest

from darkroom_contract import openapi
from tests.compositions import specs
from tests.compositions.provider import Provider, resource


@pytest.fixture
def api() -> Provider:
    return Provider("PromptApi", specs.prompt_api())


def deployments(provider: Provider) -> list[str]:
    return [key for key in provider.wanted().resources if key.startswith("deployment.")]


def served(provider: Provider) -> str:
    """The document that the stage serves."""
    by_id = {item["status"]["atProvider"].get("id"): item for item in provider.observed.values()}
    deployment = by_id[provider.observed["stage"]["status"]["atProvider"]["deploymentId"]]
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
    assert served(api) == api.wanted().resources["rest-api"].resource.for_provider["body"]
    assert {"method-settings", "usage-plan-key.acme", "invoke-permission"} <= api.observed.keys()
    assert api.wanted().status.api_url == "https://id-of-studio-api.rest-api.execute-api.eu-west-1.amazonaws.com/prod"


def test_a_new_document_is_deployed_only_once_the_api_has_it(api: Provider, new_document: str) -> None:
    api.settle()
    assert served(api) == new_document


def test_the_old_deployment_stays_until_the_stage_has_left_it(api: Provider, new_document: str) -> None:
    (old,) = [key for key in api.observed if key.startswith("deployment.")]
    seen = []
    while not api.wanted().ready:
        wanted = deployments(api)
        if api.observed["stage"]["status"]["atProvider"]["deploymentId"].endswith(old):
            assert old in wanted
        seen.append(len(wanted))
        api.step()
    assert seen[0] == 1
    assert 2 in seen
    assert old not in deployments(api)
    assert len(deployments(api)) == 1


def test_the_stage_follows_the_reference_when_it_changes(api: Provider) -> None:
    api.settle()
    assert resource(api.wanted(), "stage")["deploymentIdRef"]["policy"] == {"resolve": "Always"}


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
    assert "api-key.default" in left
    assert not [key for key in left if key.endswith(".acme")]


def test_tenants_whose_names_resemble_each_other_have_resources_of_their_own(api: Provider) -> None:
    api.spec["tenants"] = [{"name": "a"}, {"name": "key-a"}]
    composed = api.settle()
    plans = [entry.resource.name for entry in composed.resources.values() if entry.resource.kind == "UsagePlan"]
    assert len(set(plans)) == 2


def test_the_stage_lets_through_what_the_tenants_may_send_together(api: Provider) -> None:
    api.spec["tenants"] = [
        {"name": "a", "rateLimit": 20, "burstLimit": 4000},
        {"name": "b", "rateLimit": 2.5, "burstLimit": 2000},
    ]
    settings = resource(api.settle(), "method-settings")["settings"]
    assert (settings["throttlingRateLimit"], settings["throttlingBurstLimit"]) == (22.5, 5000)
