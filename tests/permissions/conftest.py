"""One system for all tests of the permissions, and what was recorded of its life."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.permissions.system import System, running
from tests.permissions.traffic import Recorded, record


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs all tests that share the system."""
    for item in items:
        is_ours = item.path.is_relative_to(Path(__file__).parent)
        if is_ours and isinstance(item, pytest.Function) and "system" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("permissions"))


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("permissions")) as system:
        yield system
        assert not system.proxy.unmapped


@pytest.fixture(scope="session")
def recorded(system: System) -> Recorded:
    return record(system)
