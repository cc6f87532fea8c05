"""What the workflows repeat for: matrices of GitHub Actions. It reads the repository, and asks nobody."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from darkroom import images
from darkroom.cluster_files import EXAMPLE, ClusterFiles, load_cluster
from darkroom_contract.cluster import Cluster


def clusters(root: Path) -> Iterator[dict[str, str]]:
    """The clusters in AWS that Argo CD keeps, and where a workflow gets its rights there.

    Raises ``ClusterFileError``.
    """
    for files in _kept(root):
        yield {"cluster": files.cluster.name, **_place(files.cluster)}


def builds(root: Path) -> Iterator[dict[str, str]]:
    """Every image for every registry, by the tag of its sources: what is there already is for the build to see.

    Raises ``ClusterFileError``.
    """
    kept = [files.cluster for files in _kept(root)]
    return (asdict(build) for build in images.builds(kept, root))


def pinned(root: Path) -> Iterator[dict[str, str]]:
    """The images that clusters run, each digest once. Raises ``ClusterFileError``."""
    found: dict[str, dict[str, str]] = {}
    for files in _kept(root):
        for image, reference in files.images.model_dump().items():
            if reference:
                found.setdefault(reference, {"image": image, "reference": reference, **_place(files.cluster)})
    yield from found.values()


def _kept(root: Path) -> Iterator[ClusterFiles]:
    for folder in sorted((root / "clusters").iterdir()):
        if folder.is_dir() and folder.name != EXAMPLE:
            files = load_cluster(folder)
            if files.cluster.gitops and not files.cluster.emulator:
                yield files


def _place(cluster: Cluster) -> dict[str, str]:
    return {"account": cluster.account, "region": cluster.region, "role": cluster.names.github_role_arn}
