import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.controlplane import cluster as clusters
from tests.e2e.controlplane.cluster import Cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        default="processes",
        help="where to test: processes (a control plane of plain processes), kind, or the path of a kubeconfig",
    )


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with Crossplane and the APIs."""
    assert request.config.getoption("--cluster") == "processes"
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder, clusters.processes(Path(folder)) as running:
        yield running
