"""A Kubernetes cluster with Crossplane and Darkroom's APIs in it, however it came about."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.controlplane import crossplane
from tests.e2e.controlplane.api import Api, is_true
from tests.e2e.controlplane.kubernetes import Kubernetes
from tests.e2e.controlplane.processes import Process

_ROOT = Path(__file__).parents[3]
APIS = _ROOT / "crossplane" / "apis"
PACKAGES = _ROOT / "crossplane" / "packages"


@dataclass(frozen=True)
class Cluster:
    """A cluster to test with."""

    api: Api
    #: The processes that it is made of, by name: none when it was there before.
    processes: dict[str, Process] = field(default_factory=dict)


@contextmanager
def processes(folder: Path) -> Iterator[Cluster]:
    """A control plane of plain processes, in a folder of its own; gone when the context ends."""
    began = time.monotonic()
    with Kubernetes(folder) as kubernetes:
        api = Api(kubernetes.kubeconfig)
        kubernetes_seconds = time.monotonic() - began
        crossplane.start(kubernetes, api)
        crossplane.serve_function(kubernetes, api)
        install_apis(api)
        seconds = time.monotonic() - began
        print(
            f"\ncontrol plane: Kubernetes in {kubernetes_seconds:.1f} s, with Crossplane and the APIs {seconds:.1f} s"
        )  # noqa: T201
        yield Cluster(api, kubernetes.processes)


def install_apis(api: Api) -> None:
    """Declare the composites, and wait until Crossplane offers them."""
    definitions = api.apply_files(sorted(APIS.glob("*/definition.yaml")))
    for definition in definitions:
        api.wait(
            definition["apiVersion"], definition["kind"], definition["metadata"]["name"], None, is_true("Established")
        )
    api.apply_files(sorted(APIS.glob("*/composition.yaml")))
