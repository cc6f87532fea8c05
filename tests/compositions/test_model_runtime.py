import pytest

from darkroom_contract.registry import RegistryEntry
from darkroom_contract.types import Engine
from tests.compositions import specs
from tests.compositions.provider import Provider, resource


@pytest.fixture
def runtime() -> Provider:
    return Provider("ModelRuntime", specs.model_runtime())


@pytest.mark.parametrize("missing", ["queue", "queue-policy", "subscription"])
def test_a_runtime_is_registered_only_when_a_prompt_can_reach_it(runtime: Provider, missing: str) -> None:
    runtime.step()
    runtime.observed[missing]["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert "registry-entry" not in runtime.wanted().resources
    assert not runtime.wanted().ready


def test_a_runtime_is_ready_when_it_is_registered(runtime: Provider) -> None:
    runtime.step()
    assert "registry-entry" in runtime.wanted().resources
    assert not runtime.wanted().ready
    assert runtime.settle().ready


def test_a_registered_runtime_stays_registered_when_nothing_is_known_of_its_queue(runtime: Provider) -> None:
    runtime.settle()
    for key in ("queue", "queue-policy", "subscription"):
        del runtime.observed[key]["status"]
    assert "registry-entry" in runtime.wanted().resources
    assert not runtime.wanted().ready


def test_the_entry_is_what_the_api_reads(runtime: Provider) -> None:
    entry = runtime.settle().resources["registry-entry"].resource.for_provider["content"]
    assert isinstance(entry, str)
    assert RegistryEntry.model_validate_json(entry) == RegistryEntry(
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
