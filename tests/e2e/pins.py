"""What pins are made of: a registry on loopback, key pairs of cosign's, and a repository with a cluster."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from darkroom.cluster_files import load_cluster
from darkroom.images import IMAGES, source_tag
from darkroom.local.kubelet import free_port
from tests.e2e.controlplane.binaries import component
from tests.e2e.controlplane.processes import Processes, answers

CLUSTER = """\
cluster:
  name: main
  account: "123456789012"
  region: eu-west-1
  eksName: main
  gitops:
    repository: https://github.com/team/darkroom.git
"""
IMAGES_FILE = """\
# Only continuous integration writes this file.
images:
  agent: "" # reads queues
  api: ""
  function: ""
  sdwebui: ""
  comfyui: ""
"""
COSIGN = component("cosign") / "bin" / "cosign"
_REGISTRY = component("registry") / "bin"


@contextmanager
def registry() -> Iterator[str]:
    """An OCI registry that anyone may push to: its host and port."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        processes, port = Processes(Path(folder)), free_port()
        try:
            server = processes.run("registry", _REGISTRY / "registry", f"-port={port}")
            server.wait_until(answers(f"http://127.0.0.1:{port}/v2/"))
            yield f"127.0.0.1:{port}"
        finally:
            processes.stop()


def crane(*arguments: str) -> str:
    """What a command of go-containerregistry's says."""
    command = [str(_REGISTRY / "crane"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def push(tagged: str, content: str) -> str:
    """Push an image with one file of that content; its reference by digest."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as layer:
        with tarfile.open(fileobj=layer, mode="w") as archive:
            file = tarfile.TarInfo("content")
            file.size = len(content)
            archive.addfile(file, BytesIO(content.encode()))
        layer.flush()
        crane("append", f"--new_layer={layer.name}", f"--new_tag={tagged}")
    return f"{tagged.rpartition(':')[0]}@{crane('digest', tagged)}"


@dataclass(frozen=True)
class KeyPair:
    """A key pair of cosign's, without a password, in a folder."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> KeyPair:
        """A new one, in a folder that is made."""
        folder.mkdir()
        keys = cls(folder)
        keys._cosign("generate-key-pair")
        # Without it cosign asks for the services of Sigstore, and writes to the public log.
        keys._cosign("signing-config", "create", "--out=signing.json")
        return keys

    @property
    def public(self) -> Path:
        """The public key."""
        return self.folder / "cosign.pub"

    def sign(self, reference: str) -> None:
        """Put a signature of an image into its registry."""
        self._cosign("sign", "--yes", "--key=cosign.key", "--signing-config=signing.json", reference)

    def _cosign(self, *arguments: str) -> None:
        environment = {**os.environ, "COSIGN_PASSWORD": ""}
        subprocess.run([COSIGN, *arguments], cwd=self.folder, env=environment, check=True, capture_output=True)


@dataclass(frozen=True)
class Clone:
    """A clone of a repository that has a cluster, ``clusters/main``, and sources of images."""

    root: Path

    @classmethod
    def of_new(cls, remote: Path, root: Path) -> Clone:
        """A bare repository with one commit, and a clone of it."""
        git("init", "--quiet", "--bare", "--initial-branch=main", str(remote))
        clone = cls.of(remote, root)
        clone.write("clusters/main/cluster.yaml", CLUSTER)
        clone.write("clusters/main/images.yaml", IMAGES_FILE)
        for image in IMAGES.values():
            clone.write(image.dockerfile, f"FROM {image.name}\n")
        clone.commit("A cluster")
        return clone

    @classmethod
    def of(cls, remote: Path, root: Path) -> Clone:
        """Another clone."""
        git("clone", "--quiet", str(remote), str(root))
        return cls(root)

    @property
    def folder(self) -> Path:
        """The cluster's."""
        return self.root / "clusters" / "main"

    @property
    def images(self) -> dict[str, str]:
        """What its ``images.yaml`` says, of those that are not empty."""
        return {name: it for name, it in load_cluster(self.folder).images if it}

    def write(self, path: str, content: str) -> None:
        """Write a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content)

    def commit(self, message: str) -> None:
        """Commit all, and push it."""
        self.git("add", "--all")
        self.git("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", f"--message={message}")
        self.git("push", "--quiet", "origin", "HEAD:main")

    def tag(self, image: str) -> str:
        """The tag of an image of its sources."""
        return source_tag(IMAGES[image], self.root)

    def git(self, *arguments: str) -> str:
        """What git says there."""
        return git("-C", str(self.root), *arguments)


def git(*arguments: str) -> str:
    """What git says."""
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
