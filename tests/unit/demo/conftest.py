"""Demo runtimes over real HTTP: at full speed, and such that a run lasts until it is interrupted."""

from collections.abc import Iterator

import pytest

from darkroom_demo.server import serving

UNTIL_INTERRUPTED = 3600.0  # seconds per step


@pytest.fixture(scope="module")
def webui() -> Iterator[str]:
    with serving("sdwebui") as server:
        yield server.url


@pytest.fixture
def slow_webui() -> Iterator[str]:
    with serving("sdwebui", seconds_per_step=UNTIL_INTERRUPTED) as server:
        yield server.url


@pytest.fixture
def comfyui() -> Iterator[str]:
    with serving("comfyui") as server:
        yield server.url


@pytest.fixture
def slow_comfyui() -> Iterator[str]:
    with serving("comfyui", seconds_per_step=UNTIL_INTERRUPTED) as server:
        yield server.url
