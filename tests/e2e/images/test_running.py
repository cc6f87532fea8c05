"""The images at work, started by the digests of a pin: on the local stack, as their pods are, and by Lambda."""

import subprocess
import uuid
from collections.abc import Iterator

import grpc
import pytest

from darkroom.client import Client
from darkroom.cluster_files import load_cluster
from darkroom.local.kubelet import free_port
from darkroom.local.stack import Options, Stack
from darkroom_contract.v1 import JobStatus, SubmitRequest
from tests.compositions import specs
from tests.e2e.images.engine import AS_IN_A_POD, ROOT, running
from tests.e2e.images.lambda_container import ContainerLambda
from tests.flow.test_guidance_clients import text_to_image
from tests.unit.function.crossplane_core import Core

_RUNTIME = "webui"


@pytest.fixture(scope="module")
def stack(pinned: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A local stack whose API is the image, and one of whose runtimes has no agent yet."""
    service = type("ApiImage", (ContainerLambda,), {"image": pinned["api"]})
    options = Options(
        logs=tmp_path_factory.mktemp("logs"),
        seconds_per_step=0,
        without_agent=frozenset({_RUNTIME}),
        lambda_service=service,
    )
    with Stack(load_cluster(ROOT / "clusters" / "local"), options) as stack:
        yield stack


def test_a_prompt_through_the_apis_image_becomes_a_picture_by_the_agents(stack: Stack, pinned: dict[str, str]) -> None:
    request = SubmitRequest(id=uuid.uuid4().hex, runtime=_RUNTIME, content=text_to_image())
    with Client(stack.url, stack.api_key) as client:
        job = client.submit(request)
        with running(pinned["agent"], environment=stack.agent_environment(_RUNTIME)) as agent:
            *_, last = client.follow(job)
            assert last.status is JobStatus.COMPLETED, agent.log
            assert client.download(last.images[0]).startswith(b"\x89PNG")
            assert agent.stop() == 0


@pytest.mark.parametrize("module", ["darkroom_agent", "darkroom_agent.readahead", "darkroom_agent.janitor"])
def test_the_charts_commands_are_in_the_agents_image(pinned: dict[str, str], module: str) -> None:
    """They give a command of their own, ``python -m …``, without the settings that a pod would have."""
    done = subprocess.run(
        ["docker", "run", "--rm", *AS_IN_A_POD, "--entrypoint=python", pinned["agent"], "-m", module],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named" not in done.stderr
    assert done.returncode in {1, 2}, done.stderr


def test_the_functions_image_serves_compositions(pinned: dict[str, str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    with running(pinned["function"], "--insecure", f"--address={address}") as function:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
            assert Core(channel).run("Storage", specs.storage()).resources
        assert function.is_running, function.log
