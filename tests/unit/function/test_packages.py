"""What Crossplane is given to run is what the compositions need."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from darkroom_function import definitions
from darkroom_function.kinds import Kind
from tests.compositions import crds

ROOT = Path(__file__).parents[3] / "crossplane"
TEMPLATES = ROOT / "packages" / "templates"
OBJECTS: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in TEMPLATES.glob("*.yaml") if "{{" not in path.read_text()
}
PROVIDERS = {name: item["spec"] for name, item in OBJECTS.items() if item["kind"] == "Provider"}
#: Terraform's name of a service, where it is not the provider's.
TERRAFORM = {"cloudwatchevents": "events", "cloudwatchlogs": "logs"}
reference = pytest.mark.skipif(not crds.REFERENCE, reason="DARKROOM_REFERENCE is not set: no CRDs to compare with")


def text(template: str) -> str:
    return (TEMPLATES / f"{template}.yaml").read_text()


def rendered(template: str, *, emulated: bool) -> dict[str, Any]:
    """One branch of a template that asks for nothing but an emulator."""
    chosen, taken = [], True
    for line in text(template).splitlines():
        if line == "{{- if .Values.aws.endpoint }}":
            taken = emulated
        elif line == "{{- else }}":
            taken = not taken
        elif line == "{{- end }}":
            taken = True
        elif taken:
            chosen.append(
                line.replace("{{ .Values.aws.endpoint }}", "http://aws").replace("{{ .Release.Namespace }}", "x")
            )
    loaded: dict[str, Any] = yaml.safe_load("\n".join(chosen))
    return loaded


def test_exactly_the_kinds_that_the_compositions_use_are_active() -> None:
    active = OBJECTS["managedresourceactivationpolicy-darkroom"]["spec"]["activate"]
    assert active == sorted(kind.crd for kind in Kind)


def test_exactly_the_members_of_the_family_that_are_used_run_and_all_of_one_version() -> None:
    assert PROVIDERS.keys() == {"provider-family-aws", *(f"provider-aws-{kind.service}" for kind in Kind)}
    packages = {name: spec["package"].rpartition(":") for name, spec in PROVIDERS.items()}
    assert {name: repository for name, (repository, _, _) in packages.items()} == {
        name: f"xpkg.crossplane.io/crossplane-contrib/{name}" for name in PROVIDERS
    }
    (version,) = {version for _, _, version in packages.values()}
    assert re.fullmatch(r"v\d+\.\d+\.\d+", version)
    assert all(spec["skipDependencyResolution"] for spec in PROVIDERS.values())


def test_all_providers_run_under_the_service_account_that_there_is() -> None:
    assert {spec["runtimeConfigRef"]["name"] for spec in PROVIDERS.values()} == {"provider-aws"}
    template = OBJECTS["deploymentruntimeconfig-provider-aws"]["spec"]["deploymentTemplate"]
    account = template["spec"]["template"]["spec"]["serviceAccountName"]
    assert account == OBJECTS["serviceaccount-provider-aws"]["metadata"]["name"]


def test_files_are_named_after_what_is_in_them() -> None:
    for name, item in OBJECTS.items():
        kind, object_name = item["kind"].lower(), item["metadata"]["name"]
        assert name in {object_name if object_name.startswith(f"{kind}-") else f"{kind}-{object_name}"}


def test_the_function_is_the_one_that_the_compositions_call() -> None:
    assert f"  name: {definitions.FUNCTION}\n" in text("function-darkroom-function")
    package = yaml.safe_load((ROOT / "function" / "package" / "crossplane.yaml").read_text())
    assert package["metadata"]["name"] == definitions.FUNCTION
    assert OBJECTS["deploymentruntimeconfig-darkroom-function"]["metadata"]["name"] == definitions.FUNCTION


def test_one_pod_of_the_function_stays_while_another_goes() -> None:
    config = OBJECTS["deploymentruntimeconfig-darkroom-function"]["spec"]["deploymentTemplate"]["spec"]
    budget = OBJECTS["poddisruptionbudget-darkroom-function"]["spec"]
    assert config["replicas"] > budget["maxUnavailable"]
    assert budget["selector"] == {"matchLabels": {"pkg.crossplane.io/function": definitions.FUNCTION}}


@pytest.mark.parametrize(
    ("image", "is_one"),
    [
        (f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom/function@sha256:{'0' * 64}", True),
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/darkroom/function:latest", False),
        (f"function@sha256:{'0' * 64}", False),
    ],
)
def test_the_function_is_taken_by_its_digest_alone(image: str, *, is_one: bool) -> None:
    (pattern,) = re.findall(r'regexMatch "(.+?)"', text("function-darkroom-function"))
    assert bool(re.search(pattern, image)) is is_one


def test_an_emulator_stands_in_for_every_service_that_is_used() -> None:
    spec = rendered("clusterproviderconfig-default", emulated=True)["spec"]
    services = {TERRAFORM.get(kind.service, kind.service) for kind in Kind} | {"sts"}
    assert spec["endpoint"]["services"] == sorted(services)
    secret = rendered("secret-aws-emulator", emulated=True)
    reference = spec["credentials"]["secretRef"]
    assert reference["name"] == secret["metadata"]["name"]
    assert reference["key"] in secret["stringData"]


def test_without_an_emulator_there_are_no_credentials() -> None:
    assert rendered("clusterproviderconfig-default", emulated=False)["spec"] == {
        "credentials": {"source": "PodIdentity"}
    }
    assert not rendered("secret-aws-emulator", emulated=False)


@reference
def test_the_provider_is_configured_as_its_crd_takes_it() -> None:
    for emulated in (True, False):
        assert crds.problems(rendered("clusterproviderconfig-default", emulated=emulated)) == []


@reference
def test_kinds_are_active_by_the_names_of_their_crds() -> None:
    assert {kind: crds.name(kind.group, kind) for kind in Kind} == {kind: kind.crd for kind in Kind}
