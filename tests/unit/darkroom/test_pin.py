import multiprocessing
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from darkroom import pin
from darkroom.cli import app
from darkroom.cluster_files import ClusterFileError
from darkroom.images import IMAGES
from darkroom.pin import Change, PinRefused, Repositories
from darkroom.trouble import Trouble, UsageError
from darkroom_contract.cluster import Cluster
from tests.unit.darkroom.registries import INDEX, FakeRegistry, digest, manifest, serving

_ACCOUNT = "123456789012"
_OWN = f"{_ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/darkroom"
_OLD, _NEW = (f"{_OWN}/agent@sha256:{letter * 64}" for letter in "ab")
_FILE = Path("clusters/main/images.yaml")
_EXAMPLE = Path(__file__).parents[3] / "clusters" / "example" / "images.yaml"


def cluster(repository: str = "https://github.com/team/darkroom.git") -> Cluster:
    described = {"name": "main", "account": _ACCOUNT, "region": "eu-west-1", "eksName": "main"}
    return Cluster.model_validate({**described, "gitops": {"repository": repository, "revision": "main"}})


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry({f"darkroom/{image}/{digest(manifest())}": manifest() for image in IMAGES})


@pytest.fixture
def repositories(registry: FakeRegistry) -> Iterator[Repositories]:
    with serving(registry) as host:
        yield Repositories(cluster(), host)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images.yaml").write_bytes(_EXAMPLE.read_bytes())
    return tmp_path


def anyone(reference: str) -> None:
    """A signature that verifies."""


# The file


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('  agent: ""\n', f"  agent: {_NEW}\n"),
        (f"  agent: {_OLD}  # since May\r\n", f"  agent: {_NEW}  # since May\r\n"),
        (f"    agent: '{_OLD}'\n", f"    agent: {_NEW}\n"),
        (f'  agent: "{_OLD}" # ""\n', f'  agent: {_NEW} # ""\n'),
        (f"  agent: {_OLD}", f"  agent: {_NEW}"),
        ('  comfyui: ""\n  # agent:\n\n  agent: ""\n', f'  comfyui: ""\n  # agent:\n\n  agent: {_NEW}\n'),
    ],
)
def test_a_line_alone_is_changed(before: str, after: str) -> None:
    content, changes = pin.pinned(_FILE, f"# é\nimages:\n{before}".encode(), {"agent": _NEW})
    assert content == f"# é\nimages:\n{after}".encode()
    assert [change.new for change in changes] == [_NEW]


def test_the_example_can_be_pinned_image_by_image() -> None:
    content, references = _EXAMPLE.read_bytes(), {name: f"{_OWN}/{name}@sha256:{'c' * 64}" for name in IMAGES}
    for name, reference in references.items():
        content, changes = pin.pinned(_FILE, content, {name: reference})
        assert changes == [Change(name, "", reference)]
    assert pin.images_in(_FILE, content) == references
    assert content.count(b"\n") == _EXAMPLE.read_bytes().count(b"\n")


@pytest.mark.parametrize("content", ['images: {agent: ""}\n', 'images:\n  api: ""\n', 'images:\n  agent:\n    ""\n'])
def test_a_file_without_a_line_for_the_image_is_refused(content: str) -> None:
    with pytest.raises(Trouble, match=r"has to have a line for each image, as clusters/example/images\.yaml has"):
        pin.pinned(_FILE, content.encode(), {"agent": _NEW})


@pytest.mark.parametrize("content", ["", "images: [", "images:\n  agent: latest\n", "images:\n  gateway: ''\n"])
def test_a_file_that_is_wrong_is_refused(content: str) -> None:
    with pytest.raises(ClusterFileError, match=r"images\.yaml:\d"):
        pin.pinned(_FILE, content.encode(), {"agent": _NEW})


# What may be in it


def test_what_the_registry_confirms_and_the_verifier_takes_is_written(folder: Path, repositories: Repositories) -> None:
    verified: list[str] = []
    references = {image: f"{repositories.of(image)}@{digest(manifest())}" for image in ("agent", "api")}
    changes = pin.pin(folder, references, repositories, verified.append)
    assert changes == [Change(image, "", reference) for image, reference in references.items()]
    assert verified == list(references.values())


def test_everything_that_is_refused_is_said_at_once_and_nothing_is_written(
    folder: Path, registry: FakeRegistry, repositories: Repositories
) -> None:
    def nobody(reference: str) -> None:
        raise PinRefused("no signature")

    registry.manifests[f"darkroom/api/{digest(manifest(INDEX))}"] = manifest(INDEX)
    own = repositories.of
    references = {
        "agent": f"{own('agent')}@{digest(manifest())}",
        "api": f"{own('api')}@{digest(manifest(INDEX))}",
        "function": f"{own('agent')}@{digest(manifest())}",
        "sdwebui": f"{own('sdwebui')}:latest",
        "comfyui": f"{own('comfyui')}@sha256:{'0' * 64}",
        "gateway": f"{own('gateway')}@{digest(manifest())}",
    }
    with pytest.raises(PinRefused) as refused:
        pin.pin(folder, references, repositories, nobody)
    words = [
        "agent: no signature",
        "api: .* is an index, and Lambda takes none",
        "function: .* is in another repository than its own, .*/darkroom/function",
        "sdwebui: .* is not by digest",
        "comfyui: .* is not in the registry",
        "gateway: there is no such image",
    ]
    for line, expected in zip(str(refused.value).splitlines(), words, strict=True):
        assert re.match(expected, line), line
    assert (folder / "images.yaml").read_bytes() == _EXAMPLE.read_bytes()


def test_an_image_without_a_reference_is_refused_as_what_was_typed(folder: Path) -> None:
    result = CliRunner().invoke(app, ["pin", str(folder), "agent"])
    assert (result.exit_code, "agent: say IMAGE=REFERENCE" in result.output) == (1, True)


def test_the_clusters_own_registry_is_ecr() -> None:
    assert Repositories(cluster()).of("agent") == f"{_OWN}/agent"


def test_without_github_a_key_is_needed() -> None:
    with pytest.raises(UsageError, match="say --key"):
        pin.keyless(cluster("https://git.example.org/team/darkroom.git"))


def test_processes_that_pin_at_once_lose_nothing(folder: Path, repositories: Repositories) -> None:
    references = {image: f"{repositories.of(image)}@{digest(manifest())}" for image in IMAGES}
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=pin.pin, args=(folder, {image: reference}, repositories, anyone))
        for image, reference in references.items()
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert pin.images_in(_FILE, (folder / "images.yaml").read_bytes()) == references
