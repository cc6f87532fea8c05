"""One local stack for all tests of the flow: the emulator, the API, two runtimes and their agents."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from darkroom.cluster_files import ClusterFiles, load_cluster
from darkroom.local.stack import Options, Stack
from darkroom_contract.cluster import Tenant
from tests.flow.flow import Flow

ROOT = Path(__file__).parents[2]
#: A runtime for tests that run an agent of their own.
INPUTS_RUNTIME = "inputs"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs all of these tests: they share a stack."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("flow"))


@pytest.fixture(scope="session")
def files() -> ClusterFiles:
    """The local cluster, with a tenant that may ask for little, and two runtimes without an agent."""
    files = load_cluster(ROOT / "clusters" / "local")
    slow = Tenant(name="slow", rate_limit=0.001, burst_limit=1)
    webui = files.runtimes["webui"]
    closed = webui.model_copy(update={"accepting": False, "checkpoint": "closed.safetensors"})
    inputs = webui.model_copy(update={"checkpoint": f"{INPUTS_RUNTIME}.safetensors"})
    return replace(
        files,
        cluster=files.cluster.model_copy(update={"tenants": (*files.cluster.tenants, slow)}),
        runtimes={**files.runtimes, "closed": closed, INPUTS_RUNTIME: inputs},
    )


@pytest.fixture(scope="session")
def stack(files: ClusterFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack, with demo runtimes that take no time for a step."""
    logs = tmp_path_factory.mktemp("logs")
    with Stack(
        files, Options(logs=logs, seconds_per_step=0, without_agent=frozenset({"closed", INPUTS_RUNTIME}))
    ) as stack:
        yield stack


@pytest.fixture
def flow(stack: Stack) -> Iterator[Flow]:
    """What a client does and sees; the notifications are this test's own copy."""
    flow = Flow(stack)
    yield flow
    flow.close()
