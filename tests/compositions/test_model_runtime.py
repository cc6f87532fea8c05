import json

import pytest

from darkroom_contract.names import workflow_key
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.types import Engine
from darkroom_contract.workflows import Workflow
from darkroom_function.apis import InvalidSpec
from darkroom_function.compositions import compose
from tests.compositions import specs
from tests.compositions.provider import Provider, of_kind, resource
from tests.unit.contract.test_workflows import WORKFLOW


@pytest.fixture
def runtime() -> Provider:
    return Provider("ModelRuntime", specs.model_runtime())


@pytest.mark.parametrize("missing", ["queue", "queue-policy", "subscription", "role", "role-policy", "pod-identity"])
def test_a_runtime_is_registered_only_when_a_prompt_can_reach_it_and_be_worked_on(
    runtime: Provider, missing: str
) -> None:
    runtime.step()
    (key,) = (key for key in runtime.observed if key == missing or key.startswith(f"{missing}."))
    runtime.observed[key]["status"]["conditions"][0]["status"] = "False"
    assert "registry-entry" not in runtime.wanted().resources
    assert not runtime.wanted().ready


def test_a_runtime_is_ready_when_it_is_registered(runtime: Provider) -> None:
    runtime.step()
    assert "registry-entry" in runtime.wanted().resources
    assert not runtime.wanted().ready
    assert runtime.settle().ready


def test_a_registered_runtime_stays_registered_when_nothing_is_known_of_what_it_waited_for(runtime: Provider) -> None:
    runtime.settle()
    for key in ("queue", "queue-policy", "subscription", "role", "role-policy"):
        del runtime.observed[key]["status"]
    assert "registry-entry" in runtime.wanted().resources
    assert not runtime.wanted().ready


def test_the_entry_is_what_the_api_reads(runtime: Provider) -> None:
    entry = resource(runtime.settle(), "registry-entry")["content"]
    assert RegistryEntry.model_validate(entry) == RegistryEntry(
        name="sdxl", engine=Engine.SDWEBUI, accepting=True, checkpoint="sd_xl_base_1.0.safetensors"
    )


def test_a_runtime_that_drains_says_so_in_its_entry(runtime: Provider) -> None:
    runtime.settle()
    runtime.spec = specs.model_runtime(accepting=False)
    assert resource(runtime.wanted(), "registry-entry")["content"]["accepting"] is False


def test_two_runtimes_of_one_checkpoint_do_not_both_claim_it(runtime: Provider) -> None:
    runtime.spec = specs.model_runtime(default_for_checkpoint=False)
    composed = runtime.settle()
    assert "checkpoint" not in resource(composed, "registry-entry")["content"]
    assert resource(composed, "subscription")["filterPolicy"] == {"runtime": ["sdxl"]}


def test_a_workflow_is_what_the_api_reads_and_goes_when_its_file_goes() -> None:
    flux = specs.model_runtime(engine=Engine.COMFYUI, workflows={"portrait": WORKFLOW})
    runtime = Provider("ModelRuntime", flux)
    written = resource(runtime.settle(), "workflow.portrait")
    assert written["key"] == workflow_key("sdxl", "portrait")
    assert Workflow.model_validate(written["content"]) == WORKFLOW
    runtime.spec = flux | {"workflows": {}}
    composed = runtime.settle()
    assert "workflow.portrait" not in composed.resources
    assert "workflows" not in resource(composed, "registry-entry")["content"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": "sdwebui"}, "spec.workflows: only ComfyUI has workflows: leave them out"),
        ({"workflows": {"a": {"graph": {"nodes": []}}}}, "spec.workflows.a.graph: a ComfyUI runtime takes a workflow"),
    ],
)
def test_workflows_that_could_not_be_run_are_refused(change: dict[str, object], said: str) -> None:
    flux = specs.model_runtime(engine=Engine.COMFYUI, workflows={"portrait": WORKFLOW})
    with pytest.raises(InvalidSpec, match=f"^{said}"):
        compose("ModelRuntime", flux | change, {})


def announced(runtime: Provider) -> object:
    """The checkpoint by which the API knows the runtime."""
    return resource(runtime.wanted(), "registry-entry")["content"].get("checkpoint")


def test_a_runtime_is_registered_only_when_its_filter_is_in_place(runtime: Provider) -> None:
    runtime.step()
    runtime.observed["subscription"]["status"]["atProvider"]["filterPolicy"] = '{"runtime":["other"]}'
    assert "registry-entry" not in runtime.wanted().resources


@pytest.mark.parametrize("fields", [{"checkpoint": "juggernaut.safetensors"}, {"default_for_checkpoint": False}])
def test_another_checkpoint_is_announced_only_when_the_filter_knows_it(
    runtime: Provider, fields: dict[str, object]
) -> None:
    runtime.settle()
    runtime.spec = specs.model_runtime(**fields, accepting=False)
    assert announced(runtime) == "sd_xl_base_1.0.safetensors"
    assert resource(runtime.wanted(), "registry-entry")["content"]["accepting"] is False
    assert not runtime.wanted().ready
    runtime.step()
    assert announced(runtime) == fields.get("checkpoint")
    assert runtime.settle().ready


def test_the_filter_is_known_in_whatever_words_it_is_given_back(runtime: Provider) -> None:
    runtime.settle()
    subscription = runtime.observed["subscription"]["status"]["atProvider"]
    subscription["filterPolicy"] = json.dumps(json.loads(subscription["filterPolicy"]), indent=2)
    assert runtime.wanted().ready


def test_no_checkpoint_is_announced_when_neither_the_filter_nor_the_entry_is_known(runtime: Provider) -> None:
    runtime.settle()
    del runtime.observed["subscription"]["status"]
    runtime.observed["registry-entry"]["spec"]["forProvider"]["content"] = "{"
    assert announced(runtime) is None


@pytest.mark.parametrize("fields", [{"namespace": "studio"}, {"service_account": "runtime"}])
def test_pods_of_another_service_account_get_the_role_before_the_old_ones_lose_it(
    runtime: Provider, fields: dict[str, object]
) -> None:
    (old,) = of_kind(runtime.settle(), "PodIdentityAssociation")
    runtime.spec = specs.model_runtime(**fields)
    new, still = of_kind(runtime.wanted(), "PodIdentityAssociation")
    assert still == old
    assert runtime.settle().ready
    assert of_kind(runtime.wanted(), "PodIdentityAssociation") == [new]


def test_a_name_that_aws_has_assigned_is_told_to_the_provider_from_then_on() -> None:
    """It would not know the resource again when it starts anew, and make it once more."""
    runtime = Provider("ModelRuntime", specs.model_runtime())
    assert "annotations" not in runtime.wanted().resources["subscription"].resource.manifest()["metadata"]
    runtime.settle()
    subscription = runtime.wanted().resources["subscription"].resource.manifest()
    known = runtime.observed["subscription"]["status"]["atProvider"]["id"]
    assert subscription["metadata"]["annotations"] == {"crossplane.io/external-name": known}
