"""``darkroom runtime new`` writes a file that is right, and shows every option with its true default."""

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from darkroom.cli import app
from darkroom.cluster_files import load_cluster
from darkroom.new_runtime import runtime_text
from darkroom_contract.runtime import ONE_ENGINE_ONLY, Runtime
from darkroom_contract.types import Engine

CLUSTER = (
    'cluster: {name: ours, account: "123456789012", region: eu-west-1, eksName: ours, '
    "gpuNodes: {pools: [{gpu: g5}, {gpu: g6}]}}\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cluster's folder without runtimes."""
    folder = tmp_path / "ours"
    folder.mkdir()
    (folder / "cluster.yaml").write_text(CLUSTER)
    return folder


def new(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["runtime", "new", *arguments, "--cluster", str(folder)])


@pytest.mark.parametrize("engine", Engine)
def test_the_new_file_is_a_runtime_with_the_defaults(folder: Path, engine: Engine) -> None:
    assert new(folder, "sdxl", "--engine", engine).exit_code == 0
    assert load_cluster(folder).runtimes == {"sdxl": Runtime(engine=engine)}


@pytest.mark.parametrize("engine", Engine)
def test_every_option_is_there_with_its_default(engine: Engine) -> None:
    options = re.sub(r"^  #(?! \S)", "  ", runtime_text({"engine": engine.value}), flags=re.MULTILINE)
    said = yaml.safe_load(options)["runtime"]
    assert Runtime.model_validate(said) == Runtime(engine=engine)
    unsuited = {Runtime.model_fields[name].alias for name, (suits, _) in ONE_ENGINE_ONLY.items() if suits is not engine}
    assert set(said) == {info.alias for info in Runtime.model_fields.values()} - unsuited
    assert set(said["scaling"]) == {info.alias for info in type(Runtime(engine=engine).scaling).model_fields.values()}


@pytest.mark.parametrize("checkpoint", ["sdxl/turbo: no. #1.safetensors", "- a.ckpt", "1e3.pt"])
def test_what_is_given_is_in_the_file(folder: Path, checkpoint: str) -> None:
    assert new(folder, "sdxl", "--engine", "sdwebui", "--checkpoint", checkpoint, "--gpu", "g6").exit_code == 0
    runtime = load_cluster(folder).runtimes["sdxl"]
    assert (runtime.checkpoint, runtime.gpu) == (checkpoint, "g6")


def test_a_checkpoint_that_has_its_default_runtime_keeps_it(folder: Path) -> None:
    new(folder, "first", "--engine", "sdwebui", "--checkpoint", "xl.ckpt")
    again = new(folder, "second", "--engine", "sdwebui", "--checkpoint", "xl.ckpt")
    assert again.exit_code == 0
    assert "runtime.defaultForCheckpoint: false, since first is the default for xl.ckpt already" in again.output
    assert [it.default_for_checkpoint for it in load_cluster(folder).runtimes.values()] == [True, False]


def test_what_does_not_go_together_with_the_cluster_is_said_and_the_file_is_kept(folder: Path) -> None:
    done = new(folder, "big", "--engine", "comfyui", "--gpu", "p5")
    assert done.exit_code == 1
    assert "runtime.gpu: the cluster has no pool of p5" in done.output
    assert (folder / "runtimes/big/runtime.yaml").is_file()


def test_only_what_is_wrong_with_the_new_runtime_is_said(folder: Path) -> None:
    new(folder, "big", "--engine", "comfyui", "--gpu", "p5")
    done = new(folder, "small", "--engine", "comfyui")
    assert (done.exit_code, "p5" in done.output) == (0, False)


def test_a_web_ui_without_a_checkpoint_is_worth_a_word(folder: Path) -> None:
    said = "runtime.checkpoint: none is said, and the web UI begins with any that it finds"
    assert said in new(folder, "sdxl", "--engine", "sdwebui").output
    assert said not in new(folder, "flux", "--engine", "comfyui").output


def test_without_a_cluster_it_is_the_only_one_that_argo_cd_follows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters = folder.parent / "clusters"
    for name, gitops in (("local", ""), ("ours", ", gitops: {repository: 'https://git.example.com/a.git'}")):
        (clusters / name).mkdir(parents=True)
        (clusters / name / "cluster.yaml").write_text(CLUSTER.replace("ours", name).replace("]}", f"]}}{gitops}"))
    monkeypatch.chdir(folder.parent)
    arguments = ["runtime", "new", "flux", "--engine", "comfyui"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert (clusters / "ours/runtimes/flux/runtime.yaml").is_file()
    (clusters / "ours/cluster.yaml").unlink()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "which cluster? Say it by --cluster; those under clusters with gitops in cluster.yaml: none" in again.output


def test_it_says_what_comes_next(folder: Path) -> None:
    said = new(folder, "sdxl", "--engine", "sdwebui").output
    for next_step in (f"darkroom validate {folder}", f"git add {folder}/runtimes/sdxl/runtime.yaml", "git push"):
        assert next_step in said


def test_a_file_that_is_there_is_not_written_over(folder: Path) -> None:
    new(folder, "sdxl", "--engine", "sdwebui")
    again = new(folder, "sdxl", "--engine", "comfyui")
    assert again.exit_code == 1
    assert "sdxl/runtime.yaml is there already: edit it, or choose another name" in again.output
    assert load_cluster(folder).runtimes["sdxl"].engine is Engine.SDWEBUI


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("SDXL", "--engine", "sdwebui"), "SDXL: a runtime is named by at most 32 lower-case letters"),
        (("../../x", "--engine", "sdwebui"), "../../x: a runtime is named by at most 32 lower-case letters"),
        (
            ("sdxl", "--engine", "sdwebui", "--checkpoint", "/a"),
            "runtime.checkpoint: it has to be a file in the folder",
        ),
    ],
)
def test_a_wrong_name_or_checkpoint_is_refused_and_nothing_is_written(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = new(folder, *arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert not (folder / "runtimes").exists()


def test_a_folder_that_is_no_cluster_gets_no_runtime(tmp_path: Path) -> None:
    done = new(tmp_path, "sdxl", "--engine", "sdwebui")
    assert done.exit_code == 1
    assert "is no cluster: it has no cluster.yaml" in done.output
