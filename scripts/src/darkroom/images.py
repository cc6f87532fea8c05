"""The images: what goes into each, the tag that says so, and where they are to be. It reads the repository.

An image is built once: its tag is a hash of its sources, and a registry that has the tag has the image.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from darkroom import programs
from darkroom_contract.cluster import Cluster


@dataclass(frozen=True)
class Image:
    """One of ``images.yaml``'s images. Paths are relative to the repository, which is the context of every build."""

    name: str
    dockerfile: str
    #: The files and folders that the Dockerfile copies.
    paths: tuple[str, ...]


IMAGES = {
    image.name: image
    for image in (
        Image("agent", "agent/Dockerfile", ("requirements/agent.txt", "contract/src", "agent/src")),
        Image("api", "api_lambda/Dockerfile", ("requirements/api_lambda.txt", "contract/src", "api_lambda/src")),
        Image(
            "function",
            "crossplane/function/Dockerfile",
            (
                "requirements/function.txt",
                "contract/src",
                "crossplane/function/src",
                "crossplane/function/package/crossplane.yaml",
            ),
        ),
        Image("sdwebui", "engines/sdwebui/Dockerfile", ("requirements/sdwebui.txt",)),
        Image("comfyui", "engines/comfyui/Dockerfile", ("requirements/comfyui.txt",)),
    )
}


@dataclass(frozen=True)
class Build:
    """One image for one registry: an entry of a matrix of GitHub Actions."""

    image: str
    dockerfile: str
    #: The registry's host, and the repository with it.
    registry: str
    repository: str
    tag: str
    account: str
    region: str
    #: The ARN of the role that may push.
    role: str


def source_tag(image: Image, root: Path) -> str:
    """The tag of an image of the sources as they are: ``src-`` and 16 hexadecimal digits.

    It is a hash of the names, modes and bytes of the files that go into the image, as they lie in the working tree, so
    that what is not committed gives another tag. What git ignores does not count, and is not in a clone.
    Raises ``ProgramFailed`` when ``root`` is no git repository.
    """
    digest = hashlib.sha256()
    for name in _files(image, root):
        path = root / name
        mode = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"{name}\0{mode}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return f"src-{digest.hexdigest()[:16]}"


def reference(image: Image, cluster: Cluster, root: Path) -> str:
    """Where a cluster's image of these sources is, or will be: ``<registry>/darkroom/<image>:src-…``."""
    return f"{cluster.names.image_repository(image.name)}:{source_tag(image, root)}"


def builds(clusters: Iterable[Cluster], root: Path) -> Iterator[Build]:
    """The builds of all images for clusters, each once for a registry, whether that has the tag already or not.

    Clusters without ``gitops``, and those whose AWS is an emulator, get no images.
    """
    registries: dict[str, Cluster] = {}
    for cluster in clusters:
        if cluster.gitops and not cluster.emulator:
            registries.setdefault(cluster.names.registry, cluster)
    for registry, cluster in registries.items():
        for image in IMAGES.values():
            yield Build(
                image=image.name,
                dockerfile=image.dockerfile,
                registry=registry,
                repository=cluster.names.image_repository(image.name),
                tag=source_tag(image, root),
                account=cluster.account,
                region=cluster.region,
                role=cluster.names.github_role_arn,
            )


def _files(image: Image, root: Path) -> list[str]:
    """The image's files by name: those that git has, and those that it would take."""
    listed = programs.run(
        *("git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"),
        *("--", image.dockerfile, *image.paths),
    )
    return sorted(name for name in listed.split("\0") if name and (root / name).is_file())
