import shlex
import subprocess
from pathlib import Path

import pytest

from darkroom.images import IMAGES, Image, builds, reference, source_tag
from darkroom.programs import ProgramFailed
from darkroom_contract.cluster import Cluster, Images

ROOT = Path(__file__).parents[3]
EXAMPLE = Image("example", "example/Dockerfile", ("example/src", "requirements/example.txt"))


def _git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one image's sources, and something else."""
    for name in ("example/Dockerfile", "example/src/code.py", "requirements/example.txt", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    return tmp_path


def test_the_tag_is_the_same_for_the_same_sources(repository: Path) -> None:
    tag = source_tag(EXAMPLE, repository)
    assert tag.startswith("src-")
    assert len(tag) == len("src-") + 16
    (repository / "README.md").write_text("another text")
    (repository / "example/src/__pycache__").mkdir()
    (repository / "example/src/__pycache__/code.pyc").write_bytes(b"compiled")
    assert source_tag(EXAMPLE, repository) == tag


@pytest.mark.parametrize("name", ["example/Dockerfile", "example/src/code.py", "requirements/example.txt"])
def test_a_change_of_any_file_gives_another_tag(repository: Path, name: str) -> None:
    tag = source_tag(EXAMPLE, repository)
    (repository / name).write_text("changed, and not committed")
    assert source_tag(EXAMPLE, repository) != tag


def test_a_new_a_renamed_and_a_removed_file_give_other_tags(repository: Path) -> None:
    tags = {source_tag(EXAMPLE, repository)}
    new = repository / "example/src/new.py"
    new.write_text("new")
    tags.add(source_tag(EXAMPLE, repository))
    renamed = new.rename(new.with_name("renamed.py"))
    tags.add(source_tag(EXAMPLE, repository))
    renamed.chmod(0o755)
    tags.add(source_tag(EXAMPLE, repository))
    renamed.unlink()
    (repository / "example/src/code.py").unlink()
    tags.add(source_tag(EXAMPLE, repository))
    assert len(tags) == 5


def test_without_a_repository_there_is_no_tag(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="not a git repository"):
        source_tag(EXAMPLE, tmp_path)


def test_every_image_of_a_cluster_is_built() -> None:
    assert list(IMAGES) == list(Images.model_fields)


@pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: image.name)
def test_what_a_dockerfile_copies_is_what_its_tag_is_made_of(image: Image) -> None:
    copied = [
        source.rstrip("/")
        for line in (ROOT / image.dockerfile).read_text().replace("\\\n", " ").splitlines()
        if line.startswith(("COPY ", "ADD ")) and "--from=" not in line
        for source in shlex.split(line)[1:-1]
    ]
    assert sorted(copied) == sorted(image.paths)
    assert all((ROOT / path).exists() for path in image.paths)


@pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: image.name)
def test_a_build_sees_all_that_its_dockerfile_copies(image: Image) -> None:
    """One ``.dockerignore`` for all: one beside a Dockerfile would be read by some builders alone."""
    first, *lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    let_in = tuple(line[1:] for line in lines if line.startswith("!"))
    for path in image.paths:
        assert any(path == entry or path.startswith(f"{entry}/") for entry in let_in), path
    assert not (ROOT / f"{image.dockerfile}.dockerignore").exists()


def _cluster(name: str, **changed: object) -> Cluster:
    described = {
        "name": name,
        "account": "444455556666",
        "region": "eu-west-1",
        "eksName": name,
        "tenants": [{"name": "default"}],
        "gitops": {"repository": "https://git.studio.test/team/darkroom.git"},
    }
    return Cluster.model_validate({**described, **changed})


def test_every_image_is_built_for_a_clusters_registry() -> None:
    here = "444455556666.dkr.ecr.eu-west-1.amazonaws.com"
    found = list(builds([_cluster("one")], ROOT))
    assert [build.image for build in found] == list(IMAGES)
    assert found[1].repository == f"{here}/darkroom/api"
    assert found[1].registry == here
    assert found[1].dockerfile == "api_lambda/Dockerfile"
    assert found[1].tag == source_tag(IMAGES["api"], ROOT)
    assert reference(IMAGES["api"], _cluster("one"), ROOT) == f"{found[1].repository}:{found[1].tag}"


def test_clusters_of_one_registry_share_their_images_and_others_have_their_own() -> None:
    clusters = [_cluster("one"), _cluster("two"), _cluster("three", region="us-west-2")]
    assert [build.region for build in builds(clusters, ROOT)] == ["eu-west-1"] * 5 + ["us-west-2"] * 5


def test_clusters_that_nothing_keeps_get_no_images() -> None:
    assert not list(builds([_cluster("one", gitops=None)], ROOT))
    assert not list(builds([_cluster("one", emulator={"endpoint": "http://10.0.0.1:5000"})], ROOT))
