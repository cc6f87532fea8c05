"""What comes of a push that is wrong: who is told, where and in what words, and that nothing else changes."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from darkroom.cli import app
from darkroom.local.composites import NAMESPACE
from darkroom_function.apis import API_VERSION
from tests.e2e.controlplane import argocd
from tests.e2e.controlplane.api import Object, condition, is_gone
from tests.e2e.gitops import FOLDER, GitOpsWorld, image, is_synced_and_healthy, runtime_file

GOOD = ("rose", "violet")
#: Those of ``BROKEN`` that are mended, and all that are served then.
MENDED = ("no-yaml", "unknown-field")
SERVED = (*GOOD, *MENDED)
RUNTIMES = ("argoproj.io/v1alpha1", "ApplicationSet", "runtimes", argocd.NAMESPACE)
IMAGES, CLUSTER = f"{FOLDER}/images.yaml", f"{FOLDER}/cluster.yaml"


@dataclass(frozen=True)
class Broken:
    """A runtime's folder with something wrong in it."""

    #: The folder's name.
    name: str
    #: Its runtime.yaml, if it has one.
    text: str | None
    #: Patterns: what Argo CD says in the Application's condition, and ``darkroom validate`` in one line.
    argo_cd: str
    validate: str

    @property
    def application(self) -> str:
        """Its Application's name: Kubernetes takes no other characters."""
        return f"runtime-{self.name.lower().replace('_', '-')}"

    @property
    def files(self) -> dict[str, str]:
        """The folder, as it is pushed."""
        return {runtime_file(self.name): self.text} if self.text else {f"{FOLDER}/runtimes/{self.name}/NOTES": "None."}


BROKEN = (
    Broken(
        "no-yaml",
        "runtime:\n  engine: [sdwebui\n  gpu: g5\n",
        r"runtimes/no-yaml/runtime\.yaml: error converting YAML to JSON: yaml: line 2: ",  # it counts from 0
        r"runtimes/no-yaml/runtime\.yaml:3: .*",
    ),
    Broken(
        "unknown-field",
        "runtime:\n  engine: sdwebui\n  chekpoint: a.safetensors\n",
        r"at '/runtime': additional properties 'chekpoint' not allowed",
        r"runtimes/unknown-field/runtime\.yaml:3: runtime\.chekpoint: .* did you mean checkpoint\?",
    ),
    Broken(
        "wrong-value",
        "runtime:\n  engine: sdwebui\n  scaling:\n    maxPods: many\n",
        r"at '/runtime/scaling/maxPods': got string, want integer",
        r"runtimes/wrong-value/runtime\.yaml:4: runtime\.scaling\.maxPods: .*",
    ),
    Broken(
        "by-tag",
        "runtime:\n  engine: sdwebui\n  image: registry.example.com/webui:latest\n",
        r"at '/runtime/image': .*'registry\.example\.com/webui:latest' does not match pattern",
        r"runtimes/by-tag/runtime\.yaml:3: runtime\.image: .*by its digest.*",
    ),
    Broken(
        "no-pool",
        "runtime:\n  engine: sdwebui\n  gpu: p5\n",
        r"runtime\.gpu: the cluster has no pool of p5: .* take one of g5",
        r"runtimes/no-pool/runtime\.yaml:3: runtime\.gpu: the cluster has no pool of p5: .*",
    ),
    Broken(
        "not-built",
        "runtime:\n  engine: comfyui\n",
        rf"images\.comfyui is empty: continuous integration writes it into {IMAGES}",
        r"images\.yaml:\d+: images: empty: comfyui; .*",
    ),
    Broken(
        "no-file",
        None,
        r"at '/runtime': missing property 'engine'",
        r"runtimes/no-file/runtime\.yaml:1: .*",
    ),
    Broken(
        "Bad_Name",
        "runtime:\n  engine: sdwebui\n",
        r"at '/name': 'Bad_Name' does not match pattern",
        r"runtimes/Bad_Name:1: a runtime's folder is named by .*: rename it",
    ),
)


@pytest.fixture(scope="module")
def world(gitops_world: GitOpsWorld) -> Iterator[GitOpsWorld]:
    """A cluster with two runtimes that are well."""
    for name in GOOD:
        gitops_world.push_runtime(name)
    for name in GOOD:
        gitops_world.wait_ready(name)
    yield gitops_world
    left = [name for name in SERVED if (gitops_world.repository.folder / runtime_file(name)).exists()]
    gitops_world.push("Leave nothing", {runtime_file(name): None for name in left})
    for name in left:
        gitops_world.wait_removed(name)


@pytest.fixture(scope="module")
def before(world: GitOpsWorld) -> dict[str, Object]:
    """The good runtimes, before anything was broken."""
    return as_they_are(world)


@pytest.fixture(scope="module")
def broken(world: GitOpsWorld, before: object) -> str:
    """A push of everything that can be wrong with a runtime's folder; the commit."""
    images = yaml.safe_load((world.repository.folder / IMAGES).read_text())["images"]
    unbuilt = yaml.safe_dump({"images": {**images, "comfyui": ""}})
    files = {path: text for each in BROKEN for path, text in each.files.items()}
    return world.push("Break things", {**files, IMAGES: unbuilt})


@pytest.mark.parametrize("each", BROKEN, ids=lambda each: each.name)
def test_the_application_of_a_broken_folder_says_what_is_wrong(world: GitOpsWorld, broken: str, each: Broken) -> None:
    application = world.wait_application(each.application, lambda item: bool(message(item, "ComparisonError")))
    assert re.search(each.argo_cd, message(application, "ComparisonError"))
    # Where there is one, so that whoever reads it finds it.
    assert f"{FOLDER}/runtimes/{each.name}" in yaml.safe_dump(application["spec"]["source"])
    assert application["status"]["sync"]["status"] == "Unknown"
    assert application["status"].get("resources") is None


@pytest.mark.parametrize("each", BROKEN, ids=lambda each: each.name)
def test_validate_says_it_with_file_and_line(world: GitOpsWorld, broken: str, tmp_path: Path, each: Broken) -> None:
    said = validate(world, tmp_path, broken)
    assert [line for line in said if re.fullmatch(rf"(error|note ) {FOLDER}/{each.validate}", line)], said


def test_runtimes_beside_broken_ones_are_not_touched(
    world: GitOpsWorld, broken: str, before: dict[str, Object]
) -> None:
    assert_untouched(world, broken, before)
    applications = world.api.find(*RUNTIMES)
    assert applications
    assert condition(applications, "ErrorOccurred") == "False"


def test_a_push_that_mends_them_is_all_that_it_takes(
    world: GitOpsWorld, broken: str, before: dict[str, Object]
) -> None:
    images = yaml.safe_load((world.repository.folder / IMAGES).read_text())["images"]
    built = yaml.safe_dump({"images": {**images, "comfyui": image("comfyui")}})
    mended = [each for each in BROKEN if each.name in MENDED]
    removed = [each for each in BROKEN if each.name not in MENDED]
    files: dict[str, str | None] = dict.fromkeys((path for each in removed for path in each.files), None)
    for each in mended:
        files[runtime_file(each.name)] = f"runtime: {{engine: sdwebui, checkpoint: {each.name}.safetensors}}\n"
    commit = world.push("Mend two, and remove the others", {**files, IMAGES: built})
    for each in mended:
        world.wait_application(each.application, is_synced_and_healthy)
    for each in removed:
        world.wait_application(each.application, is_gone)
    assert_untouched(world, commit, before)


def test_two_folders_that_would_be_one_application_are_told_of_and_change_nothing(
    world: GitOpsWorld, before: dict[str, Object]
) -> None:
    world.push_runtime("white-lily")
    world.wait_ready("white-lily")
    text = (world.repository.folder / runtime_file("white-lily")).read_text()
    commit = world.push("Serve it twice", {runtime_file("White_lily"): text})
    applications = world.api.wait(*RUNTIMES, lambda item: condition(item, "ErrorOccurred") == "True")
    assert "contains applications with duplicate name: runtime-white-lily" in message(applications, "ErrorOccurred")
    assert_untouched(world, commit, before)
    assert world.application("runtime-white-lily")


def test_a_folder_that_is_removed_while_it_takes_prompts_goes_and_validate_says_so_before(
    world: GitOpsWorld, before: dict[str, Object], tmp_path: Path
) -> None:
    served = world.push("Serve it once", {runtime_file("White_lily"): None})
    removed = world.remove_runtime("white-lily")
    said = validate(world, tmp_path, removed, base=served)
    assert [line for line in said if line.startswith(f"error {runtime_file('white-lily')}:1: runtime.accepting: ")]
    world.wait_removed("white-lily")
    for kind in ("ModelRuntime", "ScaledObject", "Deployment"):
        assert world.api.find(API_VERSIONS[kind], kind, "white-lily", NAMESPACE) is None
    assert_untouched(world, removed, before)


def test_a_cluster_file_that_is_wrong_stops_changes_and_nothing_that_runs(
    world: GitOpsWorld, before: dict[str, Object], tmp_path: Path
) -> None:
    text = (world.repository.folder / CLUSTER).read_text()
    commit = world.push("Move house", {CLUSTER: text.replace("region:", "regoin:")})
    for name in ("root", "platform", "gpu-nodes", *(f"runtime-{name}" for name in GOOD)):
        application = world.wait_application(name, lambda item: bool(message(item, "ComparisonError")))
        assert re.search(r"at '/cluster': .*'regoin'", message(application, "ComparisonError")), name
    meanwhile, said = as_they_are(world), validate(world, tmp_path, commit)
    commit = world.push("Move back", {CLUSTER: text})
    assert meanwhile == before
    assert [line for line in said if re.fullmatch(rf"error {CLUSTER}:\d+: cluster\.regoin: .* region\?", line)], said
    for name in ("root", "platform", "gpu-nodes"):
        world.wait_application(name, is_synced_and_healthy)
    assert_untouched(world, commit, before)


def test_a_cluster_without_runtimes_is_none_the_worse(world: GitOpsWorld, tmp_path: Path) -> None:
    commit = world.push("Serve nothing", {runtime_file(name): None for name in SERVED})
    for name in SERVED:
        world.wait_removed(name)
    applications = world.api.find(*RUNTIMES)
    assert applications
    assert condition(applications, "ErrorOccurred") == "False"
    assert not [line for line in validate(world, tmp_path, commit) if line.startswith("error")]


API_VERSIONS = {
    "Deployment": "apps/v1",
    "ModelRuntime": API_VERSION,
    "ScaledObject": "keda.sh/v1alpha1",
    "ServiceAccount": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def as_they_are(world: GitOpsWorld) -> dict[str, Object]:
    """What the good runtimes are made of, but for the status, which controllers write."""

    def found(kind: str, name: str) -> Object:
        item = world.api.find(API_VERSIONS[kind], kind, name, NAMESPACE)
        assert item, f"there is no {kind} {name}"
        item.pop("status", None)
        for changing in ("managedFields", "resourceVersion"):
            del item["metadata"][changing]
        return item

    return {f"{kind} {name}": found(kind, name) for kind in API_VERSIONS for name in GOOD}


def assert_untouched(world: GitOpsWorld, commit: str, before: dict[str, Object]) -> None:
    """See that the good runtimes are as they were, now that Argo CD has looked at a commit."""
    for name in GOOD:
        application = world.wait_application(
            f"runtime-{name}",
            lambda item: item["status"]["sync"].get("revision") == commit and is_synced_and_healthy(item),
        )
        assert "conditions" not in application["status"]
    assert as_they_are(world) == before


def message(item: Object, kind: str) -> str:
    """What a condition says; nothing when it is not there."""
    conditions = item.get("status", {}).get("conditions", ())
    return next((entry["message"] for entry in conditions if entry["type"] == kind), "")


def validate(world: GitOpsWorld, folder: Path, commit: str, base: str | None = None) -> list[str]:
    """The lines of ``darkroom validate``, for a commit as whoever is about to push it has it."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", world.repository.folder, clone], check=True)
    subprocess.run(["git", "-C", clone, "checkout", "--quiet", "--detach", commit], check=True)
    with chdir(clone):
        done = CliRunner().invoke(app, ["validate", FOLDER, f"--base={base or commit}"])
    return done.output.splitlines()
