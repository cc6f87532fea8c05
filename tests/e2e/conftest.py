import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom.local.processes import Child
from tests.e2e.controlplane import cluster as clusters
from tests.e2e.controlplane.cluster import Cluster
from tests.e2e.world import World, emulated_aws, provided

_START_SECONDS = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        default="processes",
        help="where to test: processes (a control plane of plain processes), kind, or the path of a kubeconfig",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _START_SECONDS in config.stash:
        seconds = config.stash[_START_SECONDS]
        terminalreporter.write_line(f"The control plane, with Crossplane and all kinds, was ready in {seconds:.1f} s.")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with Crossplane and the APIs."""
    wanted = request.config.getoption("--cluster")
    if wanted != "processes":
        yield clusters.existing(Path(wanted))
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder, clusters.processes(Path(folder)) as running:
        request.config.stash[_START_SECONDS] = time.monotonic() - began
        yield running


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with emulated_aws(tmp_path_factory.mktemp("emulator") / "emulator.log") as child:
        yield child


@pytest.fixture(scope="session")
def world(cluster: Cluster, emulator: Child) -> Iterator[World]:
    """The cluster, with a provider that works on an emulated AWS."""
    with provided(cluster, emulator) as world:
        yield world
