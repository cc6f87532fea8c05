"""A cluster's folder is read whole, and what is wrong in it is said with its file and field."""

from pathlib import Path

import pytest

from darkroom.cluster_files import ClusterFileError, load_cluster

ROOT = Path(__file__).parents[3]
CLUSTER = 'cluster: {name: ours, account: "123456789012", region: eu-west-1, eksName: ours}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cluster's folder with one runtime."""
    write(tmp_path / "ours" / "cluster.yaml", CLUSTER)
    write(tmp_path / "ours" / "runtimes" / "sdxl" / "runtime.yaml", "runtime: {engine: sdwebui}\n")
    return tmp_path / "ours"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_local_cluster_has_a_runtime_of_each_engine() -> None:
    files = load_cluster(ROOT / "clusters" / "local")
    assert {runtime.engine for runtime in files.runtimes.values()} == {"sdwebui", "comfyui"}


def test_a_runtime_is_named_by_its_folder(folder: Path) -> None:
    files = load_cluster(folder)
    assert list(files.runtimes) == ["sdxl"]
    assert files.cluster.names.runtime_queue("sdxl") == "ours-runtime-sdxl"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("cluster.yaml", CLUSTER.replace("ours", "other", 1), r"cluster\.yaml: cluster\.name must be .* ours"),
        ("cluster.yaml", CLUSTER.replace("eu-west-1", "Mars"), r"cluster\.region: "),
        ("cluster.yaml", "[", r"cluster\.yaml: not YAML"),
        ("cluster.yaml", "runtime: {}", r"the file has one key, cluster"),
        ("runtimes/sdxl/runtime.yaml", "runtime: {engine: forge}", r"runtime\.engine: .*'sdwebui' or 'comfyui'"),
        ("runtimes/sdxl/runtime.yaml", "runtime: {engine: comfyui, gpu: 1}", r"runtime\.gpu: Extra inputs"),
        ("runtimes/sdxl/runtime.yaml", "runtime: {engine: comfyui, dynamicCheckpoint: true}", r"is for the web UI"),
        ("runtimes/SDXL/runtime.yaml", "runtime: {engine: comfyui}", r"SDXL: a runtime's folder is named"),
    ],
)
def test_what_is_wrong_is_said_with_its_file_and_field(folder: Path, file: str, text: str, said: str) -> None:
    write(folder / file, text)
    with pytest.raises(ClusterFileError, match=said):
        load_cluster(folder)


def test_two_runtimes_may_not_both_be_the_default_for_a_checkpoint(folder: Path) -> None:
    runtimes = folder / "runtimes"
    for name in ("sdxl", "turbo"):
        write(runtimes / name / "runtime.yaml", "runtime: {engine: sdwebui, checkpoint: xl.safetensors}\n")
    with pytest.raises(ClusterFileError) as error:
        load_cluster(folder)
    for said in ("sdxl/runtime.yaml", "turbo/runtime.yaml", "xl.safetensors", "defaultForCheckpoint to false"):
        assert said in str(error.value)
    write(
        runtimes / "turbo" / "runtime.yaml",
        "runtime: {engine: sdwebui, checkpoint: xl.safetensors, defaultForCheckpoint: false}\n",
    )
    assert len(load_cluster(folder).runtimes) == 2


def test_a_cluster_without_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterFileError, match=r"cluster\.yaml: there is no such file"):
        load_cluster(tmp_path)


def test_there_are_no_more_runtimes_than_sns_has_filters_for(folder: Path) -> None:
    for number in range(199):
        write(folder / "runtimes" / f"r{number}" / "runtime.yaml", "runtime: {engine: comfyui}\n")
    assert len(load_cluster(folder).runtimes) == 200
    write(folder / "runtimes" / "one-more" / "runtime.yaml", "runtime: {engine: comfyui}\n")
    with pytest.raises(ClusterFileError, match=r"runtimes: 201 runtimes; a cluster has at most 200"):
        load_cluster(folder)
