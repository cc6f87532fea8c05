"""An account, the programs, and a fork's cluster: what every test here begins with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom import programs as real_programs
from tests.programs import Account, Programs, account, install
from tests.unit.darkroom.bootstrap.fork import Fork, write_fork


@pytest.fixture
def aws() -> Iterator[Account]:
    with account() as found:
        yield found


@pytest.fixture
def programs(aws: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    found = install(folder, aws.url)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fork")
    real_programs.run("git", "init", "--quiet", "--initial-branch=main", str(root))
    write_fork(root)
    return root


@pytest.fixture
def fork(repository: Path, tmp_path: Path, programs: Programs) -> Fork:
    """With the players on the PATH, and the account in the place of AWS."""
    shutil.copytree(repository, tmp_path / "fork")
    return Fork(tmp_path / "fork" / "clusters" / "ours")
