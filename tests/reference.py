"""Schemas of others that the tests compare with, and that are not in the repository: what DARKROOM_REFERENCE names.

``python -m tests.reference FOLDER`` fetches them, of the versions that clusters get: the CRDs of the AWS provider's
kinds, eksctl's schema, and, where Helm is built, the add-ons' own values.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

from tests.e2e.controlplane.binaries import BuildFailed, component

_ROOT = Path(__file__).parents[1]
_PACKAGES = _ROOT / "crossplane" / "packages" / "templates"
#: What is fetched from where; the version is the provider's.
_CRDS = "https://raw.githubusercontent.com/crossplane-contrib/provider-upjet-aws/{version}/package/crds/{name}"
_EKSCTL = "https://schema.eksctl.io"
_CHART = re.compile(r"repoURL: (https://\S+)\n\s+chart: (\S+)\n(?:\s+#.*\n)*\s+targetRevision: (\S+)")


def fetch(folder: Path, crds: str = _CRDS, eksctl: str = _EKSCTL) -> None:
    """Fetch what has an address; raises ``httpx.HTTPError``."""
    version = _version()
    with httpx.Client(follow_redirects=True, timeout=60) as client:
        for path, url in (
            *((f"crds/aws/{name}", crds.format(version=version, name=name)) for name in crd_files()),
            ("eksctl.schema.json", eksctl),
        ):
            answer = client.get(url).raise_for_status()
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(answer.content)


def crd_files() -> Iterator[str]:
    """The files of the CRDs that the tests read, as the provider's source names them."""
    policy = yaml.safe_load((_PACKAGES / "managedresourceactivationpolicy-darkroom.yaml").read_text())
    for name in (*policy["spec"]["activate"], "clusterproviderconfigs.aws.m.upbound.io"):
        plural, _, group = name.partition(".")
        yield f"{group}_{plural}.yaml"


def charts() -> Iterator[tuple[str, str, str]]:
    """The add-ons' charts: the repository, the name, the version."""
    for file in sorted((_ROOT / "apps" / "root" / "templates").glob("application-*.yaml")):
        if found := _CHART.search(file.read_text()):
            yield found[1], found[2], found[3]


def show_values(folder: Path, helm: Path) -> None:
    """Have Helm fetch the charts, and keep their values; raises ``CalledProcessError``."""
    (folder / "charts").mkdir(parents=True, exist_ok=True)
    for repository, chart, version in charts():
        command = (helm, "show", "values", chart, "--repo", repository, "--version", version)
        shown = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        (folder / "charts" / f"{chart}.values.yaml").write_bytes(shown.stdout)


def _version() -> str:
    family = yaml.safe_load((_PACKAGES / "provider-family-aws.yaml").read_text())
    return str(family["spec"]["package"].rpartition(":")[2])


def _main(folder: Path) -> None:
    fetch(folder)
    try:
        helm = component("helm") / "bin" / "helm"
    except BuildFailed:
        return
    show_values(folder, helm)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
