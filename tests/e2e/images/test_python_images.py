"""The agent, the API's function and the composition function as images: what is in them, and what a change moves."""

import shutil
import subprocess
from pathlib import Path

import pytest

from darkroom.images import IMAGES
from tests.e2e.images.bases import Bases
from tests.e2e.images.conftest import PYTHON_IMAGES
from tests.e2e.images.engine import AS_IN_A_POD, ROOT, BuiltImage, docker
from tests.e2e.images.registry import Registry, layers
from tests.e2e.pins import crane

pytestmark = pytest.mark.parametrize("name", PYTHON_IMAGES)


def test_it_runs_as_a_user_that_is_not_root(built: dict[str, BuiltImage], name: str) -> None:
    user, _, group = built[name].described["Config"]["User"].partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_nothing_that_only_the_build_needs_is_in_it(built: dict[str, BuiltImage], debian: Bases, name: str) -> None:
    ours = set(built[name].files()) - set(debian.run.files())
    assert all(file == "package.yaml" or file.startswith("app/") for file in ours)
    assert not [file for file in ours if "/pip/" in file or "/setuptools/" in file]


def test_every_module_is_compiled(built: dict[str, BuiltImage], name: str) -> None:
    files = set(built[name].files())
    modules = {Path(file) for file in files if file.startswith("app/") and file.endswith(".py")}
    compiled = {path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc" for path in modules}
    assert modules
    assert {str(path) for path in compiled} <= files


def test_a_change_of_the_code_moves_the_code_alone(
    built: dict[str, BuiltImage], pushed: dict[str, str], debian: Bases, registry: Registry, name: str, tmp_path: Path
) -> None:
    image = IMAGES[name]
    paths = (".dockerignore", image.dockerfile, *image.paths)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    listed = subprocess.check_output(command, cwd=ROOT, text=True)
    for file in listed.splitlines():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    module = next((tmp_path / image.paths[2]).glob("*/__main__.py"), tmp_path / image.paths[2] / "new.py")
    with module.open("a") as code:
        code.write('\nprint("changed")\n')
    changed = debian.build(f"darkroom-e2e/{name}-changed", image.dockerfile, tmp_path)
    try:
        before, after = layers(pushed[name]), layers(registry.push(name, changed, "changed"))
    finally:
        docker("rmi", changed.reference)
    moved = {digest: size for digest, size in after.items() if digest not in before}
    assert list(after)[:2] == list(before)[:2]
    assert 0 < sum(moved.values()) < 500_000, f"{moved} of {after}"


def test_its_digest_is_that_of_the_registry(pushed: dict[str, str], name: str) -> None:
    reference, _, digest = pushed[name].partition("@")
    assert reference.endswith(f"/darkroom/{name}")
    assert crane("digest", pushed[name]) == digest


def test_it_writes_nowhere_but_in_tmp(built: dict[str, BuiltImage], name: str) -> None:
    script = "import os, tempfile; assert tempfile.gettempdir() == '/tmp'; open('/tmp/a', 'w'); open('/app/a', 'w')"
    with pytest.raises(AssertionError, match="Read-only file system"):
        docker("run", "--rm", *AS_IN_A_POD, "--entrypoint=/usr/bin/python3", built[name].reference, "-c", script)
