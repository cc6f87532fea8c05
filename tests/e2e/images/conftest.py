"""The Python images: built from their Dockerfiles on a base of our own, pushed to a registry on loopback, pinned."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkroom.images import IMAGES
from tests.e2e import pins
from tests.e2e.images import bases, engine
from tests.e2e.images.bases import Bases
from tests.e2e.images.engine import BuiltImage
from tests.e2e.images.registry import Registry

#: The GPU images have bases, and sources, that cannot be had everywhere.
PYTHON_IMAGES = ("agent", "api", "function")
_DARKROOM = str(Path(sys.executable).with_name("darkroom"))
_SIZES = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_SIZES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def debian() -> Bases:
    """What the images are built on."""
    if reason := engine.missing() or bases.missing():
        pytest.skip(reason)
    return bases.made()


@pytest.fixture(scope="session")
def built(debian: Bases, request: pytest.FixtureRequest) -> dict[str, BuiltImage]:
    """The images by name."""
    images = {name: debian.build(f"darkroom-e2e/{name}", IMAGES[name].dockerfile) for name in PYTHON_IMAGES}
    request.config.stash[_SIZES] = [
        f"Image {name}: {(image.size - debian.run.size) / 1e6:.0f} MB on its base" for name, image in images.items()
    ]
    return images


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """An OCI registry on loopback, which anyone may push to."""
    with pins.registry() as host:
        yield Registry(host)


@pytest.fixture(scope="session")
def pushed(built: dict[str, BuiltImage], registry: Registry) -> dict[str, str]:
    """Where the images are in that registry, ``<registry>/darkroom/<image>@sha256:…``, by name."""
    return {name: registry.push(name, image) for name, image in built.items()}


@pytest.fixture(scope="session")
def pinned(pushed: dict[str, str], registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The images by name as a cluster's ``images.yaml`` has them: signed, verified and written by ``darkroom pin``."""
    folder = tmp_path_factory.mktemp("pins")
    keys = pins.KeyPair.made(folder / "keys")
    clone = pins.Clone.of_new(folder / "repository.git", folder / "clone")
    for reference in pushed.values():
        keys.sign(reference)
    wanted = [f"{name}={reference}" for name, reference in pushed.items()]
    subprocess.run(
        [_DARKROOM, "pin", clone.folder, "--registry", registry.host, "--key", keys.public, *wanted],
        cwd=clone.root,
        env={**os.environ, "PATH": f"{pins.COSIGN.parent}{os.pathsep}{os.environ['PATH']}"},
        check=True,
    )
    return clone.images
