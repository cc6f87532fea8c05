import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from darkroom.local.processes import Child
from tests.e2e.controlplane import cluster as clusters
from tests.e2e.controlplane import kind
from tests.e2e.controlplane.api import Api
from tests.e2e.controlplane.cluster import Cluster, GitOpsCluster
from tests.e2e.gitops import GitOpsWorld, Timeline
from tests.e2e.gitops import gitops_world as world_that_git_drives
from tests.e2e.kubelet import sandbox
from tests.e2e.world import ACCOUNT, World, aws_at, emulated_aws, provided

_START_SECONDS = pytest.StashKey[float]()
_GITOPS = pytest.StashKey[str]()
_TIMELINES = pytest.StashKey[list[Timeline]]()
#: How often Argo CD looks into the repository: more often than in the clusters.
_POLLING = {"timeout.reconciliation": "5s"}
_REQUEUE = {"applicationsetcontroller.requeue.after": "5s"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        default="processes",
        help="where to test: processes (a control plane of plain processes), kind, or the path of a kubeconfig",
    )
    parser.addoption(
        "--aws-endpoint",
        help="with a kubeconfig: the emulated AWS that the cluster's own provider works on; without, a stand-in does",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _START_SECONDS in config.stash:
        seconds = config.stash[_START_SECONDS]
        terminalreporter.write_line(f"The control plane, with Crossplane and all kinds, was ready in {seconds:.1f} s.")
    if _GITOPS in config.stash:
        terminalreporter.write_line(config.stash[_GITOPS])
    for timeline in config.stash.get(_TIMELINES, []):
        terminalreporter.write_line(timeline.name)
        for line in timeline.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with Crossplane and the APIs."""
    wanted = request.config.getoption("--cluster")
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        began = time.monotonic()
        with _cluster(wanted, Path(folder), request.config.getoption("--aws-endpoint")) as running:
            if running.processes:
                request.config.stash[_START_SECONDS] = time.monotonic() - began
            yield running


def _cluster(wanted: str, folder: Path, aws_url: str | None) -> AbstractContextManager[Cluster]:
    if wanted == "processes":
        return clusters.processes(folder)
    if wanted != "kind":
        return nullcontext(_existing(Path(wanted), aws_url))
    if not shutil.which("docker"):
        pytest.skip("a cluster of kind needs Docker")
    return kind.cluster(folder, ACCOUNT)


@pytest.fixture(scope="session")
def gitops_cluster(request: pytest.FixtureRequest) -> Iterator[GitOpsCluster]:
    """A cluster with KEDA, Karpenter and Argo CD too, and the repository that Argo CD may read."""
    if request.config.getoption("--cluster") != "processes":
        pytest.skip("Argo CD, KEDA and Karpenter are there as processes only")
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        began = time.monotonic()
        with clusters.gitops(Path(folder), _POLLING, _REQUEUE) as running:
            seconds = time.monotonic() - began
            yield running
            request.config.stash[_GITOPS] = (
                f"The control plane, with Argo CD, KEDA and Karpenter too, was ready in {seconds:.1f} s; "
                f"it took {running.processes.memory >> 20} MiB at the end."
            )


@pytest.fixture(scope="session")
def gitops_world(gitops_cluster: GitOpsCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitOpsWorld]:
    """A cluster that serves what is pushed."""
    if reason := sandbox.missing():
        pytest.skip(reason)
    with world_that_git_drives(gitops_cluster, tmp_path_factory.mktemp("gitops")) as world:
        yield world


@pytest.fixture
def timeline(request: pytest.FixtureRequest) -> Timeline:
    """What happened when in a test; told at the end of all tests."""
    timeline = Timeline(request.node.name)
    request.config.stash.setdefault(_TIMELINES, []).append(timeline)
    return timeline


def _existing(kubeconfig: Path, aws_url: str | None) -> Cluster:
    api = Api(kubeconfig)
    if not aws_url and api.list("pkg.crossplane.io/v1", "Provider"):
        pytest.exit("the cluster has providers: --aws-endpoint has to say on which emulated AWS they work", 2)
    return Cluster(api, aws_url=aws_url)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with emulated_aws(tmp_path_factory.mktemp("emulator") / "emulator.log") as child:
        yield child


@pytest.fixture(scope="session")
def world(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[World]:
    """The cluster, with a provider that works on an emulated AWS: its own, or the stand-in."""
    if cluster.aws_url:
        yield World(cluster, aws_at(cluster.aws_url), frozenset(kind.WORKING))
    else:
        with provided(cluster, request.getfixturevalue("emulator")) as world:
            yield world


@pytest.fixture(scope="session")
def whole_world(world: World) -> World:
    """The world, where every kind becomes ready."""
    if world.services:
        pytest.skip(f"the cluster's provider has an AWS of {', '.join(sorted(world.services))} only")
    return world
