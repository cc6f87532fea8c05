"""The digests of ``images.yaml``: which images a cluster may run, and the file that says so.

It asks the registry, has cosign verify signatures, and writes that one file. ``pull_request`` brings it to a branch.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from darkroom import programs, registry
from darkroom.cluster_files import EXAMPLE, ClusterFileError
from darkroom.documents import Document, Unreadable, parse, replace, validate
from darkroom.images import IMAGES, source_tag
from darkroom.trouble import Trouble, UsageError
from darkroom_contract.cluster import Cluster
from darkroom_contract.schemas import ClusterFile, ImagesFile
from darkroom_contract.types import IMAGE_BY_DIGEST, Model

FILE = "images.yaml"
#: Who signs on GitHub: Fulcio's certificate has the workflow and its branch as its subject.
_SIGNED_BY = "https://github.com/{repository}/.github/workflows/images.yaml@refs/heads/{revision}"
_ISSUER = "https://token.actions.githubusercontent.com"

_File = TypeVar("_File", bound=Model)
#: Raises ``Trouble`` unless an image, ``<registry>/<repository>@<digest>``, is signed as it has to be.
Verifier: TypeAlias = Callable[[str], None]


class PinRefused(Trouble):
    """Images may not be pinned; a line for each says why."""


@dataclass(frozen=True)
class Change:
    """What an image was, ``""`` if nothing, and what it is now."""

    image: str
    old: str
    new: str


@dataclass(frozen=True)
class Found:
    """The images of the sources as they are: those that the registry has by digest, and those that it does not."""

    references: dict[str, str]
    missing: dict[str, str]
    """By their tags."""


@dataclass(frozen=True)
class Repositories:
    """Where a cluster's images are: in its ECR, or with the same names in another registry."""

    cluster: Cluster
    host: str | None = None

    def of(self, image: str) -> str:
        """The repository of an image, with its registry."""
        names = self.cluster.names
        return names.image_repository(image).replace(names.registry, self.host or names.registry, 1)


def load(folder: Path) -> Cluster:
    """The cluster of a folder, whatever its runtimes are like; raises ``ClusterFileError``."""
    path = folder / "cluster.yaml"
    return _said(path, path.read_bytes(), ClusterFile)[1].cluster


def root_of(folder: Path) -> Path:
    """The repository that a folder is in; raises ``ProgramFailed`` if it is in none."""
    return Path(programs.run("git", "-C", str(folder), "rev-parse", "--show-toplevel").strip())


def built(repositories: Repositories, root: Path) -> Found:
    """Look up the images of the sources that are checked out in ``root``; raises ``RegistryTrouble``."""
    found = Found({}, {})
    for name, image in IMAGES.items():
        tagged = f"{repositories.of(name)}:{source_tag(image, root)}"
        if digest := registry.digest_of(tagged):
            found.references[name] = f"{repositories.of(name)}@{digest}"
        else:
            found.missing[name] = tagged
    return found


def pin(folder: Path, references: Mapping[str, str], repositories: Repositories, verify: Verifier) -> list[Change]:
    """Write images, by digest, into a cluster's ``images.yaml``; returns what is another than it was.

    Raises ``PinRefused`` if any of them may not run, and ``ClusterFileError`` if the file is wrong; then nothing is
    written. Two processes may pin at once.
    """
    check(references, repositories, verify)
    path = folder / FILE
    with alone(folder):
        after, changes = pinned(path, path.read_bytes(), references)
        if changes:
            replace(path, after)
    return changes


def check(references: Mapping[str, str], repositories: Repositories, verify: Verifier) -> None:
    """Raise ``PinRefused`` unless the registry confirms each image's digest, and its signature verifies."""
    problems = []
    for image, reference in references.items():
        try:
            _check(image, reference, repositories)
            verify(reference)
        except Trouble as error:
            problems.append(f"{image}: {error}")
    if problems:
        raise PinRefused("\n".join(problems))


def _check(image: str, reference: str, repositories: Repositories) -> None:
    if image not in IMAGES:
        raise UsageError(f"there is no such image: it is one of {', '.join(IMAGES)}")
    if not re.fullmatch(IMAGE_BY_DIGEST, reference):
        raise UsageError(
            f"{reference} is not by digest, and a tag may mean another image tomorrow: say "
            f"{repositories.of(image)}@sha256:<64 hex digits>"
        )
    if reference.partition("@")[0] != repositories.of(image):
        raise UsageError(f"{reference} is in another repository than its own, {repositories.of(image)}")
    manifest = registry.manifest_of(reference)
    if manifest is None:
        raise UsageError(f"{reference} is not in the registry: push it, or take a digest that is there")
    if image == "api" and manifest.is_index:
        raise UsageError(
            f"{reference} is an index, and Lambda takes none: build it for one platform, without attestations in the "
            "image (docker buildx build --provenance=false --sbom=false)"
        )


def keyless(cluster: Cluster) -> Verifier:
    """Whether the workflow ``images`` of the cluster's own repository and branch on GitHub signed an image."""
    if cluster.gitops is None:
        raise UsageError(f"cluster {cluster.name} has no gitops in its cluster.yaml: nothing is built for it")
    if cluster.gitops.github is None:
        raise UsageError(
            "the repository in cluster.gitops is not on GitHub, so that nobody signs without a key: sign with a key "
            "pair of yours, and say --key cosign.pub"
        )
    identity = _SIGNED_BY.format(repository=cluster.gitops.github, revision=cluster.gitops.revision)
    return _cosign("--certificate-identity", identity, "--certificate-oidc-issuer", _ISSUER)


def by_key(public_key: Path) -> Verifier:
    """Whether the owner of a key signed an image. No log is asked: whoever has the private key is believed."""
    return _cosign("--key", str(public_key), "--insecure-ignore-tlog=true")


def _cosign(*who: str) -> Verifier:
    programs.find("cosign")

    def verify(reference: str) -> None:
        try:
            # Of cosign's ways to log in it is "Kubernetes'" that knows ECR by the AWS SDK's credentials.
            programs.run("cosign", "verify", "--k8s-keychain", *who, reference)
        except programs.ProgramFailed as error:
            raise PinRefused(f"{reference} has no signature that verifies: {error}") from error

    return verify


# The file


def pinned(path: Path, content: bytes, references: Mapping[str, str]) -> tuple[bytes, list[Change]]:
    """The file with these images, its comments and order as they were, and what has changed.

    Raises ``ClusterFileError`` if it is wrong, and ``Trouble`` if its lines are not as they have to be.
    """
    document, file = _said(path, content, ImagesFile)
    before = dict(file.images)
    wanted = {**before, **references}
    changes = [Change(image, before[image], new) for image, new in wanted.items() if new != before[image]]
    lines = content.decode("utf-8-sig").splitlines(keepends=True)
    for change in changes:
        number = document.lines.get(("images", change.image), 0) - 1
        lines[number] = re.sub(
            rf"^(\s+{change.image}:)[^#\r\n]*?(\s+#.*)?(\r?\n)?$", rf"\1 {change.new}\2\3", lines[number]
        )
    after = "".join(lines).encode()
    with suppress(ClusterFileError):
        if images_in(path, after) == wanted:
            return after, changes
    raise Trouble(f"{path} has to have a line for each image, as clusters/{EXAMPLE}/{FILE} has: copy it")


def images_in(path: Path, content: bytes) -> dict[str, str]:
    """What a file with that content says of each image; raises ``ClusterFileError``."""
    return dict(_said(path, content, ImagesFile)[1].images)


def _said(path: Path, content: bytes, model: type[_File]) -> tuple[Document, _File]:
    try:
        document = parse(path, content)
    except Unreadable as error:
        raise ClusterFileError([error.finding]) from error
    file, findings = validate(document, model)
    if file is None:
        raise ClusterFileError(findings)
    return document, file


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process pins in this folder."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
