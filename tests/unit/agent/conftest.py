"""Real servers for the agent's tests: an AWS emulator, both engines' demo runtimes, and an HTTPS host of pictures."""

import uuid
from collections.abc import Iterator

import pytest

from darkroom_demo.server import serving
from tests.emulator import emulated_aws
from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import Cloud, running


@pytest.fixture(scope="session", autouse=True)
def _attentive() -> Iterator[None]:
    """Agents look at their engine, write progress and try again sooner than they would, so that tests wait less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darkroom_agent.endings._LONGEST_PAUSE_SECONDS", 1)
        patch.setattr("darkroom_agent.records._PROGRESS_PAUSE_SECONDS", 0)
        patch.setattr("darkroom_agent.worker._RENEW_SECONDS", 0.3)
        patch.setattr("darkroom_agent.engines.watch._SAY_SECONDS", 0)
        patch.setattr("darkroom_agent.engines.sdwebui_queue._FIRST_LOOK_SECONDS", 0.2)
        patch.setattr("darkroom_agent.engines.sdwebui_queue._LOOK_SECONDS", 0.2)
        patch.setattr("darkroom_agent.engines.comfyui._POLL_SECONDS", 0.4)
        yield


@pytest.fixture(autouse=True)
def _light_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines' network costs nothing: what it draws is no matter to an agent, and the load is to its deadlines."""
    monkeypatch.setattr("darkroom_demo.diffusion.model.denoise", lambda weights, noisy, *_: noisy / 2)


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    with emulated_aws() as url:
        yield url


@pytest.fixture
def cloud(aws_endpoint: str) -> Cloud:
    return new_cloud(aws_endpoint)


@pytest.fixture(scope="session")
def webui() -> Iterator[str]:
    with serving(engine="sdwebui") as server:
        yield server.url


@pytest.fixture(scope="session")
def slow_webui() -> Iterator[str]:
    with serving(engine="sdwebui", seconds_per_step=0.25) as server:
        yield server.url


@pytest.fixture(scope="session")
def comfyui() -> Iterator[str]:
    with serving(engine="comfyui") as server:
        yield server.url


@pytest.fixture(scope="session")
def host() -> Iterator[PicturesHost]:
    with PicturesHost() as host:
        yield host


@pytest.fixture(scope="module")
def webui_cloud(aws_endpoint: str, webui: str, host: PicturesHost) -> Iterator[Cloud]:
    """A cloud with an agent at work on the web UI."""
    cloud = new_cloud(aws_endpoint)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud, host.fetcher()):
        yield cloud


@pytest.fixture(scope="module")
def comfyui_cloud(aws_endpoint: str, comfyui: str, host: PicturesHost) -> Iterator[Cloud]:
    """A cloud with an agent at work on ComfyUI."""
    cloud = new_cloud(aws_endpoint)
    with running(cloud.settings(engine="comfyui", runtime_url=comfyui), cloud, host.fetcher()):
        yield cloud


def new_cloud(endpoint: str) -> Cloud:
    return Cloud(endpoint, f"t{uuid.uuid4().hex[:12]}")
