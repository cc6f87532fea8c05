"""Bases for the images where no public registry can be reached: Debian with Python, made by debootstrap.

They are kept by the engine, and their files in the user's cache folder.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.images.engine import ROOT, BuiltImage, build, docker

#: Debian 13, as the bases that the Dockerfiles name.
_SUITE = "trixie"
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "ca-certificates,python3"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom" / "images"
#: The authorities that this computer trusts: a proxy's is one of them, where there is one.
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
#: The settings that pip needs to reach a package index from where the tests run.
_SETTINGS = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


def missing() -> str | None:
    """Why no base can be made."""
    if not shutil.which("debootstrap"):
        return "there is no debootstrap to make a base with"
    if os.geteuid():
        return "debootstrap has to be run by root"
    return None


@dataclass(frozen=True)
class Bases:
    """What the stages of a Dockerfile begin from."""

    build_base: BuiltImage
    run: BuiltImage

    def build(self, tag: str, dockerfile: str, context: Path = ROOT) -> BuiltImage:
        """Build an image on them."""
        arguments = {"BUILD_IMAGE": self.build_base.reference, "BASE_IMAGE": self.run.reference}
        return build(tag, dockerfile, context, arguments)


def made() -> Bases:
    """Both bases, made if they are not there."""
    run = _run_base()
    return Bases(_build_base(run), run)


def _run_base() -> BuiltImage:
    """Debian with Python, and without pip."""
    recipe = hashlib.sha256(f"{_SUITE} {_PACKAGES} {_MIRROR}".encode()).hexdigest()[:16]
    base = BuiltImage(f"darkroom-e2e/debian:{recipe}")
    if not docker("image", "ls", "--quiet", base.reference).strip():
        docker("import", str(_debian(_CACHE / f"{_SUITE}-{recipe}.tar")), base.reference)
    return base


def _build_base(run: BuiltImage) -> BuiltImage:
    """The same with pip, which reaches its index as the tests' own does."""
    settings = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    files = [path for path in (_AUTHORITIES, Path("/etc/pip.conf")) if path.exists()]
    if _AUTHORITIES in files:
        settings["PIP_CERT"] = str(_AUTHORITIES)
    lines = [
        f"FROM {run.reference}",
        "RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip",
        *(f"COPY {path.name} {path}" for path in files),
        *(f'ENV {name}="{value}"' for name, value in settings.items()),
    ]
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text("\n".join(lines))
        for path in files:
            shutil.copy(path, context)
        return build("darkroom-e2e/python", "Dockerfile", context)


def _debian(archive: Path) -> Path:
    """The files of a Debian, as an archive; made if it is not there yet, which takes a minute."""
    if archive.exists():
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="debian-") as folder:
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, folder, _MIRROR],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        unfinished = archive.with_suffix(".unfinished")
        excluded = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./dev/*")
        options = [f"--exclude={pattern}" for pattern in excluded]
        subprocess.run(["tar", "-C", folder, *options, "-cf", unfinished, "."], check=True)
        unfinished.rename(archive)
    return archive
