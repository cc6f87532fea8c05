"""The control plane's programs, built from their Go modules and kept in the user's cache folder.

``modules/<name>/`` pins one component by its go.mod and go.sum, and its ``tool`` lines say what is built of it. A
finished build is kept under the hash of all that it is made from, and so are the parts of its source that the tests
need, apart from it: other files need no other build. What Go caches on the way, more than 20 GiB, is put beside them
and removed. Building needs Go (``GO`` names it; ``make e2e`` installs it) and the Go module proxy.

``python -m tests.e2e.controlplane.binaries`` builds what is missing.
"""

import fcntl
import hashlib
import json
import os
import re
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

    #: The folder that pins it.
    name: str
    #: The module's own path.
    module: str
    #: The programs by the names that they get, and their packages in the module.
    programs: dict[str, str] = field(default_factory=dict)
    #: Files and folders of its source.
    files: tuple[str, ...] = ()
    #: The variable that says the module's version, where the linker has to set it.
    version_variable: str = ""

    @property
    def version(self) -> str:
        """The version that is pinned."""
        pins = (_MODULES / self.name / "go.mod").read_text()
        pin = re.search(rf"^(?:require |\t){re.escape(self.module)} (\S+)", pins, re.M)
        assert pin, f"{self.name}/go.mod requires no {self.module}"
        return pin[1]

    @property
    def build(self) -> Path:
        """Where a finished build of exactly these programs is kept: ``bin/``."""
        return self._kept("", repr(self.programs).encode(), self.version_variable.encode(), _TOOLCHAIN.read_bytes())

    @property
    def source(self) -> Path:
        """Where exactly these files are kept, as the module has them."""
        return self._kept("-source", repr(self.files).encode())

    def _kept(self, what: str, *recipe: bytes) -> Path:
        pins = ((_MODULES / self.name / file).read_bytes() for file in ("go.mod", "go.sum"))
        return _CACHE / f"{self.name}{what}-{hashlib.sha256(b''.join((*recipe, *pins))).hexdigest()[:16]}"


COMPONENTS = (
    Component("etcd", "go.etcd.io/etcd/server/v3", {"etcd": ""}),
    Component(
        "kubernetes",
        "k8s.io/kubernetes",
        {name: f"cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")},
        # Argo CD tells Helm which version charts are for.
        version_variable="k8s.io/component-base/version.gitVersion",
    ),
    Component("kubectl", "k8s.io/kubernetes", {"kubectl": "cmd/kubectl"}),
    Component("kwok", "sigs.k8s.io/kwok", {"kwok": "cmd/kwok"}),
    Component(
        "crossplane",
        "github.com/crossplane/crossplane/v2",
        {"crossplane": "cmd/crossplane"},
        ("cluster/crds", "cluster/webhookconfigurations"),
    ),
    Component("helm", "helm.sh/helm/v3", {"helm": "cmd/helm"}),
    Component("karpenter", "sigs.k8s.io/karpenter", {"karpenter": "kwok"}, ("kwok/apis/crds",)),
    Component(
        "argocd",
        "github.com/argoproj/argo-cd/v3",
        {"argocd": "cmd"},
        (
            "manifests/crds",
            *(
                f"manifests/base/{part}"
                for part in ("config", "repo-server", "application-controller", "applicationset-controller")
            ),
            *(f"hack/{script}" for script in ("git-ask-pass.sh", "git-verify-wrapper.sh", "gpg-wrapper.sh")),
        ),
    ),
    Component(
        "keda",
        "github.com/kedacore/keda/v2",
        {f"keda-{name}": f"cmd/{name}" for name in ("operator", "adapter", "webhooks")},
        ("config/crd/bases", "config/webhooks"),
    ),
    # What images go through, from their build to their pin, and what reads the workflows that do it.
    Component(
        "registry",
        "github.com/google/go-containerregistry",
        {name: f"cmd/{name}" for name in ("registry", "crane")},
    ),
    Component("cosign", "github.com/sigstore/cosign/v3", {"cosign": "cmd/cosign"}),
    Component("actionlint", "github.com/rhysd/actionlint", {"actionlint": "cmd/actionlint"}),
    Component("kind", "sigs.k8s.io/kind", {"kind": ""}),
    # Karpenter's CRDs and its chart's values as clusters have them.
    Component(
        "karpenter-provider-aws",
        "github.com/aws/karpenter-provider-aws",
        files=("pkg/apis/crds", "charts/karpenter/values.yaml"),
    ),
    Component(
        "prometheus-operator",
        "github.com/prometheus-operator/prometheus-operator",
        files=("example/prometheus-operator-crd",),
    ),
)


def component(name: str) -> Path:
    """The folder of a component's finished build; raises ``BuildFailed`` when it is not built."""
    return _there(name, _named(name).build)


def source(name: str) -> Path:
    """The folder with the files of a component's source; raises ``BuildFailed`` when they are not there."""
    return _there(name, _named(name).source)


def _named(name: str) -> Component:
    return next(item for item in COMPONENTS if item.name == name)


def _there(name: str, folder: Path) -> Path:
    if not folder.exists():
        raise BuildFailed(f"{name} is not built: run make e2e, or python -m tests.e2e.controlplane.binaries")
    return folder


def build_missing() -> None:
    """Build every component that is not there yet; raises ``BuildFailed``."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with _alone():
        sources = [item for item in COMPONENTS if item.files and not item.source.exists()]
        builds = [item for item in COMPONENTS if item.programs and not item.build.exists()]
        if not (sources or builds):
            return
        if builds:
            _say(f"building {', '.join(item.name for item in builds)}: half an hour for all on two cores, once")
        began = time.monotonic()
        # Shared by the components, which have most of Kubernetes' libraries in common.
        with tempfile.TemporaryDirectory(prefix="build-", dir=_CACHE) as scratch:
            for item in sources:
                _keep_source(item, Path(scratch))
            for item in builds:
                _build(item, Path(scratch))
        _say(f"built in {time.monotonic() - began:.0f} s")


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other process build meanwhile."""
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _environment(scratch: Path) -> dict[str, str]:
    return {
        **os.environ,
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOCACHE": str(scratch / "cache"),
        "GOMODCACHE": str(scratch / "modules"),
        "CGO_ENABLED": "0",
    }


def _build(item: Component, scratch: Path) -> None:
    began = time.monotonic()
    finished = Path(tempfile.mkdtemp(prefix=f"{item.name}-", dir=scratch))
    flags = "-s -w" + (f" -X {item.version_variable}={item.version}" if item.version_variable else "")
    for number, (name, package) in enumerate(item.programs.items(), 1):
        label = f"{name} ({number} of {len(item.programs)} of {item.name})" if len(item.programs) > 1 else name
        output = str(finished / "bin" / name)
        path = f"{item.module}/{package}".removesuffix("/")
        command = [_GO, "build", "-v", "-trimpath", "-ldflags", flags, "-o", output, path]
        _run_visibly(label, command, _MODULES / item.name, _environment(scratch))
    finished.rename(item.build)
    _say(f"{item.name}: {time.monotonic() - began:.0f} s")


def _keep_source(item: Component, scratch: Path) -> None:
    command = [_GO, "mod", "download", "-json", item.module]
    pinned, environment = _MODULES / item.name, _environment(scratch)
    download = subprocess.run(command, cwd=pinned, env=environment, check=False, capture_output=True, text=True)
    if download.returncode:
        raise BuildFailed(f"{' '.join(command)} failed:\n{download.stderr or download.stdout}")
    module = Path(json.loads(download.stdout)["Dir"])
    finished = Path(tempfile.mkdtemp(prefix=f"{item.name}-source-", dir=scratch))
    for name in item.files:
        kept = finished / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if (module / name).is_dir():
            shutil.copytree(module / name, kept)
        else:
            shutil.copy(module / name, kept)
    finished.rename(item.source)


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
