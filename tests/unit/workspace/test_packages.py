"""Each package works with what its own lock installs, and the files of the workspace keep its rules."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: The packages that images are made of: lock, and the sources that its image has.
PACKAGES = {
    "darkroom_agent": ("agent", ["agent/src", "contract/src"]),
    "darkroom_api": ("api_lambda", ["api_lambda/src", "contract/src"]),
    "darkroom_function": ("function", ["crossplane/function/src", "contract/src"]),
    "darkroom_demo": ("demo", ["demo/src"]),
}
IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_needs_no_more_than_its_lock(package: str, tmp_path: Path) -> None:
    lock, sources = PACKAGES[package]
    python = tmp_path / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    requirements = ROOT / "requirements" / f"{lock}.txt"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, "--clear", tmp_path], check=True)
    subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, requirements], check=True)
    path = ":".join(str(ROOT / source) for source in sources)
    run = subprocess.run(
        [python, "-c", IMPORT_ALL, package], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.stem)
def test_a_lock_names_no_host_and_hashes_everything(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    pins = re.findall(r"^[A-Za-z0-9._-]+(?:\[[^]]*\])?==\S+.*$", text, flags=re.MULTILINE)
    assert pins
    assert all(pin.endswith("\\") for pin in pins)
