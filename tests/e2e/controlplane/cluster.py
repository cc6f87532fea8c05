"""A Kubernetes cluster with Crossplane and Darkroom's APIs in it, however it came about."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.controlplane import crossplane, managed_kinds
from tests.e2e.controlplane.api import Api, is_true
from tests.e2e.controlplane.crossplane import Function
from tests.e2e.controlplane.kubernetes import Kubernetes
from tests.e2e.controlplane.processes import Processes

APIS = Path(__file__).parents[3] / "crossplane" / "apis"


@dataclass(frozen=True)
class Cluster:
    """A cluster to test with."""

    api: Api
    #: The processes that it is made of, or that serve it: none where it was there before.
    processes: Processes | None = None
    #: The composition function, where it is one of them.
    function: Function | None = None
    #: The emulated AWS that its own provider works on; None: it has no provider.
    aws_url: str | None = None


@contextmanager
def processes(folder: Path) -> Iterator[Cluster]:
    """A control plane of plain processes, in a folder of its own; gone when the context ends."""
    with Kubernetes(folder) as kubernetes:
        api = Api(kubernetes.kubeconfig)
        crossplane.start(kubernetes.processes, api)
        function = crossplane.start_function(kubernetes.processes, api)
        crossplane.call_function(api, function.endpoint)
        managed_kinds.declare(api)
        install_apis(api)
        yield Cluster(api, kubernetes.processes, function)


def install_apis(api: Api) -> None:
    """Declare the composites, and wait until Crossplane offers them."""
    definitions = api.apply_files(sorted(APIS.glob("*/definition.yaml")))
    for item in definitions:
        api.wait(item["apiVersion"], item["kind"], item["metadata"]["name"], None, is_true("Established"))
    api.apply_files(sorted(APIS.glob("*/composition.yaml")))
