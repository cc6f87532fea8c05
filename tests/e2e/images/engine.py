"""A Docker engine, by its command line. ``DOCKER_HOST`` says where it is."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
#: As in the pods, and in Lambda: nothing can be written but /tmp, by a user without a name.
AS_IN_A_POD = ("--read-only", "--tmpfs", "/tmp", "--user", "1000:1000", "--network", "host")
#: The builder that every engine has, with which a build's steps are on the host's network.
_BUILDER = {"DOCKER_BUILDKIT": "0"}


def missing() -> str | None:
    """Why no image can be built."""
    if not shutil.which("docker"):
        return "there is no docker to build images with"
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        return "no Docker engine answers"
    return None


def docker(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What a docker command printed; raises ``AssertionError`` with it when that fails."""
    done = subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}\n{done.stdout}")
    return done.stdout


@dataclass(frozen=True)
class BuiltImage:
    """An image that the engine has."""

    reference: str

    @cached_property
    def described(self) -> dict[str, Any]:
        """What the engine says of it."""
        (found,) = json.loads(docker("image", "inspect", self.reference))
        return dict(found)

    @property
    def layers(self) -> list[str]:
        """Its layers from the base upwards, each by the digest of its bytes."""
        return list(self.described["RootFS"]["Layers"])

    @property
    def size(self) -> int:
        """Bytes on the disk, the base's too."""
        return int(self.described["Size"])

    def files(self) -> list[str]:
        """The names of everything in it."""
        container = docker("create", self.reference, "nothing").strip()
        try:
            with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
                return subprocess.check_output(["tar", "-t"], stdin=export.stdout, text=True).splitlines()
        finally:
            docker("rm", container)


def build(tag: str, dockerfile: str, context: Path = ROOT, arguments: Mapping[str, str] | None = None) -> BuiltImage:
    """Build an image."""
    options = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
    docker(
        *("build", "--network=host", f"--tag={tag}", f"--file={context / dockerfile}", *options, str(context)),
        environment=_BUILDER,
    )
    return BuiltImage(tag)


@contextmanager
def running(image: str, *command: str, environment: Mapping[str, str] | None = None) -> Iterator["Container"]:
    """A container as in a pod, on the host's network; removed at the end."""
    variables = [f"--env={name}={value}" for name, value in (environment or {}).items()]
    container = Container(docker("run", "--detach", *AS_IN_A_POD, *variables, image, *command).strip().splitlines()[-1])
    try:
        yield container
    finally:
        docker("rm", "--force", container.id)


@dataclass(frozen=True)
class Container:
    """One that runs."""

    id: str

    @property
    def log(self) -> str:
        """All that it said."""
        return docker("logs", self.id)

    @property
    def is_running(self) -> bool:
        return docker("inspect", "--format={{.State.Running}}", self.id).strip() == "true"

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        docker("stop", "--time=30", self.id)
        return int(docker("inspect", "--format={{.State.ExitCode}}", self.id))
