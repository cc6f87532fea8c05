"""The control plane's programs, built from their Go modules and kept in the user's cache folder.

``modules/<name>/`` pins one component by its go.mod and go.sum, and its ``tool`` lines say what is built of it. A
finished build is kept under the hash of all that it is made from. What Go caches on the way, more than 20 GiB, is put
beside it and removed. Building needs Go (``GO`` names it; ``make e2e`` installs it) and the Go module proxy.

``python -m tests.e2e.controlplane.binaries`` builds what is missing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_MODULES = Path(__file__).parent / "modules"
#: The lock of the Go toolchain that builds them.
_TOOLCHAIN = Path(__file__).parents[3] / "requirements" / "go.txt"
_GO = os.environ.get("GO", "go")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom" / "controlplane"
#: How often a build says how far it is, in seconds.
_PROGRESS_SECONDS = 20.0


class BuildFailed(Exception):  # noqa: N818 - it says what happened
    """A component could not be built; the message has the end of what Go said."""


@dataclass(frozen=True)
class Component:
    """One Go module, and what the tests need of it."""

    module: str
    #: The programs by the names that they get, and their packages.
    programs: dict[str, str]
    #: Folders of the source that are kept beside the programs, by the module that has them.
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ldflags: str = ""

    @property
    def folder(self) -> Path:
        """Where a finished build of exactly this is kept: ``bin/``, and ``files/<folder>/``."""
        source = _MODULES / self.module
        recipe = hashlib.sha256(repr(self).encode())
        for part in (source / "go.mod", source / "go.sum", _TOOLCHAIN):
            recipe.update(part.read_bytes())
        return _CACHE / f"{self.module}-{recipe.hexdigest()[:16]}"


_CROSSPLANE = "github.com/crossplane/crossplane/v2"
COMPONENTS = (
    Component("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Component(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        },
    ),
    Component("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    Component(
        "crossplane",
        {"crossplane": f"{_CROSSPLANE}/cmd/crossplane"},
        files={_CROSSPLANE: ("cluster/crds", "cluster/webhookconfigurations")},
    ),
)


def component(module: str) -> Path:
    """The folder of a component's finished build; raises ``BuildFailed`` when it is not built."""
    folder = next(item for item in COMPONENTS if item.module == module).folder
    if not folder.exists():
        raise BuildFailed(f"{module} is not built: run make e2e, or python -m tests.e2e.controlplane.binaries")
    return folder


def build_missing() -> None:
    """Build every component that is not there yet; raises ``BuildFailed``."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with _alone():
        missing = [item for item in COMPONENTS if not item.folder.exists()]
        if not missing:
            return
        _say(f"building {', '.join(item.module for item in missing)}: about ten minutes on two cores, once")
        began = time.monotonic()
        # Shared by the components, which have most of Kubernetes' libraries in common.
        with tempfile.TemporaryDirectory(prefix="build-", dir=_CACHE) as scratch:
            for item in missing:
                _build(item, Path(scratch))
        _say(f"built in {time.monotonic() - began:.0f} s")


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other process build meanwhile."""
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(item: Component, scratch: Path) -> None:
    began = time.monotonic()
    environment = {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOCACHE": str(scratch / "cache"),
        "GOMODCACHE": str(scratch / "modules"),
        "CGO_ENABLED": "0",
    }
    finished = Path(tempfile.mkdtemp(prefix=f"{item.module}-", dir=scratch))
    for number, (name, package) in enumerate(item.programs.items(), 1):
        label = f"{name} ({number} of {len(item.programs)} of {item.module})" if len(item.programs) > 1 else name
        output = str(finished / "bin" / name)
        command = ["build", "-v", "-trimpath", "-ldflags", f"-s -w {item.ldflags}".strip(), "-o", output, package]
        _run_visibly(label, [_GO, *command], _MODULES / item.module, environment)
    for module, folders in item.files.items():
        command = [_GO, "list", "-m", "-f", "{{.Dir}}", module]
        where = subprocess.run(
            command, cwd=_MODULES / item.module, env=environment, check=False, capture_output=True, text=True
        )
        if where.returncode:
            raise BuildFailed(f"{' '.join(command)} failed:\n{where.stderr}")
        for folder in folders:
            shutil.copytree(Path(where.stdout.strip(), folder), finished / "files" / Path(folder).name)
    finished.rename(item.folder)
    _say(f"{item.module}: {time.monotonic() - began:.0f} s")


def _run_visibly(label: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a Go command that names each package as it is done, and say now and then how far it is."""
    began = said = time.monotonic()
    packages, last = 0, ""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            packages += not line.startswith(("go: ", "#", "\t"))
            last = line.strip()
            if time.monotonic() - said > _PROGRESS_SECONDS:
                said = time.monotonic()
                _say(f"  {label}: {packages} packages, {said - began:.0f} s ({last[:80]})")
    if process.returncode:
        raise BuildFailed(f"{label}: {' '.join(command)} failed:\n{''.join(lines[-30:])}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - whoever waits for a build watches it


if __name__ == "__main__":
    build_missing()
