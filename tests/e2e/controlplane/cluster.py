"""A Kubernetes cluster with Crossplane and Darkroom's APIs in it, however it came about; and one that Git drives."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.controlplane import argocd, crossplane, karpenter, keda, managed_kinds
from tests.e2e.controlplane.api import Api, is_true
from tests.e2e.controlplane.binaries import source
from tests.e2e.controlplane.crossplane import Function
from tests.e2e.controlplane.kubernetes import Kubernetes
from tests.e2e.controlplane.processes import Processes
from tests.e2e.controlplane.repository import Repository

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


@dataclass(frozen=True)
class GitOpsCluster(Cluster):
    """A cluster of processes with KEDA, Karpenter, and Argo CD beside Crossplane."""

    processes: Processes
    #: What Argo CD can clone.
    repository: Repository = field(kw_only=True)


@contextmanager
def gitops(
    folder: Path, settings: Mapping[str, str] | None = None, parameters: Mapping[str, str] | None = None
) -> Iterator[GitOpsCluster]:
    """All of it, in a folder of its own; gone when the context ends.

    What is to be otherwise in Argo CD's ConfigMaps than in the clusters' is said by ``settings`` and ``parameters``.
    """
    with processes(folder) as plain:
        assert plain.processes
        plain.api.declare(monitoring_crds())
        keda.start(plain.processes, plain.api)
        karpenter.start(plain.processes, plain.api)
        repository = Repository(plain.processes)
        argocd.start(plain.processes, plain.api, settings, parameters)
        yield GitOpsCluster(plain.api, plain.processes, plain.function, repository=repository)


def monitoring_crds() -> list[Path]:
    """Those of Prometheus' operator that our charts have objects of; it does not run."""
    folder = source("prometheus-operator") / "example" / "prometheus-operator-crd"
    return [folder / f"monitoring.coreos.com_{kind}.yaml" for kind in ("podmonitors", "prometheusrules")]


def install_apis(api: Api) -> None:
    """Declare the composites, and wait until Crossplane offers them."""
    definitions = api.apply_files(sorted(APIS.glob("*/definition.yaml")))
    for item in definitions:
        api.wait(item["apiVersion"], item["kind"], item["metadata"]["name"], None, is_true("Established"))
    api.apply_files(sorted(APIS.glob("*/composition.yaml")))
