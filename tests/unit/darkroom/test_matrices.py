import shutil
from pathlib import Path

import pytest
import yaml

from darkroom import matrices, programs
from darkroom.cluster_files import ClusterFileError
from darkroom.images import IMAGES

ROOT = Path(__file__).parents[3]
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A fork with clusters/example and clusters/local as they are, and two clusters of its own."""
    programs.run("git", "init", "--quiet", str(tmp_path))
    for there in ("example", "local"):
        shutil.copytree(ROOT / "clusters" / there, tmp_path / "clusters" / there)
    for name, region in (("prod", "eu-west-1"), ("test", "us-east-1")):
        folder = tmp_path / "clusters" / name
        shutil.copytree(ROOT / "clusters" / "example", folder, ignore=shutil.ignore_patterns("eksctl.yaml"))
        file = folder / "cluster.yaml"
        described = yaml.safe_load(file.read_text())
        described["cluster"] |= {"name": name, "account": "210987654321", "region": region, "eksName": f"{name}-eks"}
        described["cluster"]["gitops"]["repository"] = "https://github.com/acme/darkroom.git"
        file.write_text(yaml.safe_dump(described))
    return tmp_path


def pin(folder: Path, **images: str) -> None:
    (folder / "images.yaml").write_text(yaml.safe_dump({"images": images}))


def test_a_repository_without_clusters_of_its_own_has_nothing_to_do() -> None:
    assert not list(matrices.clusters(ROOT))
    assert not list(matrices.builds(ROOT))
    assert not list(matrices.pinned(ROOT))


def test_a_workflow_has_a_role_for_each_cluster_in_aws(repository: Path) -> None:
    prod, test = matrices.clusters(repository)
    assert prod["cluster"] == "prod"
    assert prod["role"].startswith("arn:aws:iam::210987654321:role/")
    assert (prod["account"], prod["region"]) == ("210987654321", "eu-west-1")
    assert (test["cluster"], test["region"]) == ("test", "us-east-1")


def test_every_image_is_built_once_for_a_registry(repository: Path) -> None:
    shutil.copytree(repository / "clusters" / "prod", repository / "clusters" / "second")
    file = repository / "clusters" / "second" / "cluster.yaml"
    file.write_text(file.read_text().replace("name: prod", "name: second"))
    built = [(build["image"], build["region"]) for build in matrices.builds(repository)]
    assert sorted(built) == sorted((image, region) for image in IMAGES for region in ("eu-west-1", "us-east-1"))


def test_a_digest_that_two_clusters_run_is_scanned_once(repository: Path) -> None:
    agent = f"210987654321.dkr.ecr.eu-west-1.amazonaws.com/darkroom/agent@{DIGEST}"
    api = f"210987654321.dkr.ecr.us-east-1.amazonaws.com/darkroom/api@{DIGEST}"
    pin(repository / "clusters" / "prod", agent=agent)
    pin(repository / "clusters" / "test", agent=agent, api=api)
    found = list(matrices.pinned(repository))
    assert [(each["image"], each["reference"], each["region"]) for each in found] == [
        ("agent", agent, "eu-west-1"),
        ("api", api, "us-east-1"),
    ]


def test_a_cluster_whose_file_is_wrong_is_not_passed_over(repository: Path) -> None:
    (repository / "clusters" / "prod" / "cluster.yaml").write_text("cluster: {}\n")
    with pytest.raises(ClusterFileError, match="prod/cluster"):
        list(matrices.clusters(repository))
