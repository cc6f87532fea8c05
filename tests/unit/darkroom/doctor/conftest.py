from collections.abc import Iterator

import pytest

from tests.emulator import emulated_aws
from tests.unit.darkroom.doctor.world import Emulated, FakeApi, World, answering


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[Emulated]:
    with emulated_aws() as url:
        yield Emulated(url)


@pytest.fixture
def emulated(shared_emulator: Emulated) -> Iterator[Emulated]:
    with shared_emulator.cleanup:
        yield shared_emulator


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with answering() as api:
        yield api


@pytest.fixture(scope="session")
def shared_world(shared_emulator: Emulated) -> World:
    return World(shared_emulator, FakeApi(""))


@pytest.fixture
def intact(shared_world: World, emulated: Emulated, api: FakeApi) -> World:
    """A cluster that all tests share: AWS may be made to answer otherwise, but nothing in it may be changed."""
    shared_world.api, shared_world.aws = api, emulated.aws
    return shared_world


@pytest.fixture
def world(emulated: Emulated, api: FakeApi) -> World:
    """A cluster that the test may break."""
    return World(emulated, api)


@pytest.fixture
def two_runtimes(emulated: Emulated, api: FakeApi) -> World:
    return World(emulated, api, ("sdxl", "comfy"))
