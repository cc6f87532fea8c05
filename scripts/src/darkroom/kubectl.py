"""The EKS cluster's Kubernetes API, by kubectl.

The cluster is named in every call by a kubeconfig of its own, so that it is never the one that kubectl happens to be
set to. The user's own kubeconfig is not touched.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom import programs
from darkroom_contract.cluster import Location

Object = dict[str, Any]


class Kubectl:
    """kubectl with one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        #: For other programs that talk to the cluster, helm say.
        self.kubeconfig = kubeconfig

    def run(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl writes; raises ``ProgramFailed`` and ``ProgramMissing``."""
        return programs.run("kubectl", "--kubeconfig", str(self.kubeconfig), *arguments, text=text)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None when there is none, or no such kind; ``kind`` as ``<plural>.<group>``."""
        try:
            found = self.run("get", kind, name, *_in(namespace), "--ignore-not-found", "--output=json")
        except programs.ProgramFailed as error:
            if "the server doesn't have a resource type" in str(error):
                return None
            raise
        return json.loads(found) if found.strip() else None

    def all(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[Object]:
        """All objects of a kind, in one namespace or in all; none when there is no such kind."""
        where = _in(namespace) if namespace else ("--all-namespaces",)
        chosen = ("--selector", selector) if selector else ()
        try:
            found = self.run("get", kind, *where, *chosen, "--output=json")
        except programs.ProgramFailed as error:
            if "the server doesn't have a resource type" in str(error):
                return []
            raise
        items: list[Object] = json.loads(found)["items"]
        return items

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Make objects as they are given; what a Secret has goes by standard input."""
        documents = "\n".join(json.dumps(each) for each in objects)
        self.run("apply", "--server-side", "--field-manager=darkroom", "--filename=-", text=documents)

    def create(self, item: Mapping[str, Any]) -> None:
        """Make an object that is not there; what a Secret has goes by standard input."""
        self.run("create", "--field-manager=darkroom", "--filename=-", text=json.dumps(item))

    def patch(self, kind: str, name: str, namespace: str | None, patch: Mapping[str, Any]) -> None:
        """Merge a patch into an object; what a Secret has goes by standard input.

        With ``metadata.resourceVersion`` it is refused where the object has changed since.
        """
        arguments = ("--type=merge", "--patch-file=/dev/stdin", "--field-manager=darkroom")
        self.run("patch", kind, name, *_in(namespace), *arguments, text=json.dumps(patch))


@contextmanager
def of(location: Location) -> Iterator[Kubectl]:
    """Kubectl for an EKS cluster, with a kubeconfig that is gone afterwards; the ``aws`` command makes it."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        programs.run(
            *("aws", "eks", "update-kubeconfig", "--name", location.eks_name, "--region", location.region),
            *("--kubeconfig", str(kubeconfig)),
        )
        yield Kubectl(kubeconfig)


def _in(namespace: str | None) -> tuple[str, ...]:
    return ("--namespace", namespace) if namespace else ()
