"""What Crossplane is given to run is what the compositions need."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom_function import definitions
from darkroom_function.kinds import Kind
from tests.charts.helm import RenderFailed, one, render
from tests.compositions import crds

ROOT = Path(__file__).parents[2] / "crossplane"
IMAGES = {"images": {"function": f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom/function@sha256:{'0' * 64}"}}
EMULATED = {"cluster": {"emulator": {"endpoint": "http://aws"}}}
#: Terraform's name of a service, where it is not the provider's.
TERRAFORM = {"cloudwatchevents": "events", "cloudwatchlogs": "logs"}
reference = pytest.mark.skipif(not crds.REFERENCE, reason="DARKROOM_REFERENCE is not set: no CRDs to compare with")


def packages(*values: dict[str, Any]) -> list[dict[str, Any]]:
    return render(ROOT / "packages", IMAGES, *values, namespace="crossplane-system")


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return packages()


@pytest.fixture(scope="module")
def providers(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "Provider"}


def test_exactly_the_kinds_that_the_compositions_use_are_active(objects: list[dict[str, Any]]) -> None:
    active = one(objects, "ManagedResourceActivationPolicy")["spec"]["activate"]
    assert active == sorted(kind.crd for kind in Kind)


def test_exactly_the_members_of_the_family_that_are_used_run_and_all_of_one_version(
    providers: dict[str, dict[str, Any]],
) -> None:
    assert providers.keys() == {"provider-family-aws", *(f"provider-aws-{kind.service}" for kind in Kind)}
    parts = {name: spec["package"].rpartition(":") for name, spec in providers.items()}
    assert {name: repository for name, (repository, _, _) in parts.items()} == {
        name: f"xpkg.crossplane.io/crossplane-contrib/{name}" for name in providers
    }
    (version,) = {version for _, _, version in parts.values()}
    assert re.fullmatch(r"v\d+\.\d+\.\d+", version)
    assert all(spec["skipDependencyResolution"] for spec in providers.values())


def test_all_providers_run_under_the_service_account_that_there_is(
    objects: list[dict[str, Any]], providers: dict[str, dict[str, Any]]
) -> None:
    assert {spec["runtimeConfigRef"]["name"] for spec in providers.values()} == {"provider-aws"}
    template = one(objects, "DeploymentRuntimeConfig", "provider-aws")["spec"]["deploymentTemplate"]
    account = template["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == one(objects, "ServiceAccount")["metadata"]["name"]


def test_the_function_is_the_one_that_the_compositions_call(objects: list[dict[str, Any]]) -> None:
    assert one(objects, "Function")["metadata"]["name"] == definitions.FUNCTION
    package = yaml.safe_load((ROOT / "function" / "package" / "crossplane.yaml").read_text())
    assert package["metadata"]["name"] == definitions.FUNCTION
    assert one(objects, "Function")["spec"]["runtimeConfigRef"]["name"] == definitions.FUNCTION


def test_one_pod_of_the_function_stays_while_another_goes(objects: list[dict[str, Any]]) -> None:
    config = one(objects, "DeploymentRuntimeConfig", definitions.FUNCTION)["spec"]["deploymentTemplate"]["spec"]
    budget = one(objects, "PodDisruptionBudget")["spec"]
    assert config["replicas"] > budget["maxUnavailable"]
    assert budget["selector"] == {"matchLabels": {"pkg.crossplane.io/function": definitions.FUNCTION}}


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        ("", "continuous integration writes it into clusters/<cluster>/images.yaml"),
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom/function:latest", "@sha256:<digest>"),
        (f"function@sha256:{'0' * 64}", "<registry>/<repository>"),
    ],
)
def test_the_function_is_taken_by_its_digest_alone(image: str, remedy: str) -> None:
    with pytest.raises(RenderFailed, match=re.escape(remedy)):
        packages({"images": {"function": image}})


def test_an_emulator_stands_in_for_every_service_that_is_used() -> None:
    emulated = packages(EMULATED)
    spec = one(emulated, "ClusterProviderConfig")["spec"]
    services = {TERRAFORM.get(kind.service, kind.service) for kind in Kind} | {"sts"}
    assert spec["endpoint"]["services"] == sorted(services)
    assert spec["endpoint"]["url"]["static"] == "http://aws"
    secret = one(emulated, "Secret")
    credentials = spec["credentials"]["secretRef"]
    assert credentials["namespace"] == "crossplane-system"
    assert credentials["name"] == secret["metadata"]["name"]
    assert credentials["key"] in secret["stringData"]


def test_without_an_emulator_there_are_no_credentials(objects: list[dict[str, Any]]) -> None:
    assert one(objects, "ClusterProviderConfig")["spec"] == {"credentials": {"source": "PodIdentity"}}
    assert "Secret" not in {item["kind"] for item in objects}


@reference
def test_the_provider_is_configured_as_its_crd_takes_it(objects: list[dict[str, Any]]) -> None:
    for rendered in (objects, packages(EMULATED)):
        assert crds.problems(one(rendered, "ClusterProviderConfig")) == []


@reference
def test_kinds_are_active_by_the_names_of_their_crds() -> None:
    assert {kind: crds.name(kind.group, kind) for kind in Kind} == {kind: kind.crd for kind in Kind}
