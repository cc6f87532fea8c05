"""What clusters run is what the tests run: a version that is written in several places is the same in all of them."""

import re

import pytest
import yaml

from tests.charts.helm import APPS, CLUSTERS, REPOSITORY, render

#: Of each component, its Go module and all places that say its version: a file, and what is before the version.
PLACES: dict[str, dict[str, str]] = {
    "argocd": {
        "apps/root/values/argo-cd.yaml": "tag: v",
        "docs/upgrading.md": "The version is ",
    },
    "crossplane": {
        "crossplane/packages/Chart.yaml": "appVersion: ",
        "crossplane/README.md": "--version ",
        "tests/e2e/controlplane/kind.py": '_CROSSPLANE_VERSION = "',
    },
    "karpenter": {
        "tests/e2e/controlplane/modules/karpenter-provider-aws/go.mod": "github.com/aws/karpenter-provider-aws v",
        "docs/cold-start.md": "karpenter-provider-aws/blob/v",
        "docs/cost.md": "karpenter-provider-aws/blob/v",
    },
    "keda": {"docs/cost.md": "kedacore/keda v"},
    # What signs, and what verifies.
    "cosign": {f".github/workflows/{name}.yaml": "cosign-release: v" for name in ("images", "pin")},
    "kubernetes": {"tests/e2e/controlplane/modules/kubectl/go.mod": "^require k8s.io/kubernetes v"},
}
MODULES = {
    "argocd": "github.com/argoproj/argo-cd/v3",
    "crossplane": "github.com/crossplane/crossplane/v2",
    "karpenter": "sigs.k8s.io/karpenter",
    "keda": "github.com/kedacore/keda/v2",
    "cosign": "github.com/sigstore/cosign/v3",
    "kubernetes": "k8s.io/kubernetes",
}
#: The Applications whose chart has the version of what it installs.
APPLICATIONS = {"crossplane": "crossplane", "karpenter": "karpenter", "karpenter-crds": "karpenter", "keda": "keda"}


@pytest.mark.parametrize(("component", "file"), [(name, file) for name, files in PLACES.items() for file in files])
def test_a_version_that_is_written_down_is_the_one_that_the_tests_run(component: str, file: str) -> None:
    assert written(file, PLACES[component][file]) == {pinned(component)}


@pytest.mark.parametrize("application", APPLICATIONS)
def test_an_add_ons_version_is_the_one_that_the_tests_run(application: str) -> None:
    assert chart_version(application) == pinned(APPLICATIONS[application])


def test_argo_cd_is_installed_by_hand_by_the_chart_that_it_then_keeps_itself_by() -> None:
    assert written("docs/gitops.md", "argo-helm --version ") == {chart_version("argo-cd")}


def test_the_tests_kubernetes_is_that_of_the_example_cluster() -> None:
    (version,) = re.findall(r'^  version: "(.+)"$', (CLUSTERS / "example" / "eksctl.yaml").read_text(), re.MULTILINE)
    assert pinned("kubernetes").startswith(f"{version}.")


def test_the_aws_providers_have_one_version() -> None:
    files = (REPOSITORY / "crossplane" / "packages" / "templates").glob("provider-*.yaml")
    packages = [yaml.safe_load(file.read_text())["spec"]["package"] for file in files]
    assert len({package.rpartition(":")[2] for package in packages}) == 1


def test_the_emulated_aws_is_the_same_beside_the_tests_and_in_kind() -> None:
    assert written("tests/e2e/controlplane/kind.py", "motoserver/moto:") == written("requirements/dev.txt", "^moto==")


def pinned(component: str) -> str:
    """The version that the tests' control plane is built from."""
    (version,) = written(
        f"tests/e2e/controlplane/modules/{component}/go.mod", rf"^(?:require |\t){MODULES[component]} v"
    )
    return version


def written(file: str, before: str) -> set[str]:
    """The versions that a file has after these words."""
    found = set(re.findall(rf"{before}(\d+\.\d+\.\d+)\b", (REPOSITORY / file).read_text(), re.MULTILINE))
    assert found, f"{file} has no version after {before}"
    return found


def chart_version(application: str) -> str:
    """The version of the chart that an Application installs."""
    cluster = yaml.safe_load((CLUSTERS / "example" / "cluster.yaml").read_text())
    (spec,) = [item["spec"] for item in render(APPS / "root", cluster) if item["metadata"]["name"] == application]
    (chart, *_) = spec.get("sources") or [spec["source"]]
    return str(chart["targetRevision"])
