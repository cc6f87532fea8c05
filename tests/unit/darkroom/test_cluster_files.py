"""A cluster's folder is read whole, and what is wrong in it is said with its file and field."""

import re
from pathlib import Path

import pytest

from darkroom.cluster_files import ClusterFileError, check_cluster, load_cluster

ROOT = Path(__file__).parents[3]
CLUSTER = 'cluster: {name: ours, account: "123456789012", region: eu-west-1, eksName: ours}\n'
RUNTIME = "runtimes/sdxl/runtime.yaml"
GRAPH = '{graph: {"3": {class_type: X, inputs: {}}}}'


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
        (
            "cluster.yaml",
            CLUSTER.replace("ours", "other", 1),
            "cluster.yaml:1: cluster.name: it has to be the folder's",
        ),
        ("cluster.yaml", CLUSTER.replace("eu-west-1", "Mars"), "cluster.yaml:1: cluster.region: it has to be a region"),
        ("cluster.yaml", CLUSTER.replace('"', ""), "cluster.account: it has to be a text: put it in quotes"),
        ("cluster.yaml", "[", "cluster.yaml:1: not YAML"),
        ("cluster.yaml", "", "cluster.yaml:1: the file has to have one key, cluster"),
        ("cluster.yaml", "runtime: {}", "cluster.yaml:1: runtime: there is no such field; there are cluster"),
        (
            "images.yaml",
            "images:\n  agent: darkroom/agent:1.0",
            "images.yaml:2: images.agent: it has to be an image by",
        ),
        (RUNTIME, "runtime: {engine: forge}", "runtime.engine: it should be 'sdwebui' or 'comfyui'"),
        (RUNTIME, "runtime:\n  engine: comfyui\n  gpux: 1", f"{RUNTIME}:3: runtime.gpux: there is no such field; did"),
        (
            RUNTIME,
            "runtime: {engine: comfyui, max_starts: 1}",
            "runtime.max_starts: there is no such field; did you mean",
        ),
        (
            RUNTIME,
            "runtime:\n  engine: comfyui\n  scaling:\n    minpods: 1",
            ":4: runtime.scaling.minpods: there is no",
        ),
        (RUNTIME, "runtime: {gpu: g5}", "runtime.engine: it is missing"),
        (RUNTIME, 'runtime: {engine: comfyui, accepting: "yes"}', "runtime.accepting: it should be a valid boolean"),
        (RUNTIME, 'runtime: {engine: comfyui, maxStarts: "3"}', "runtime.maxStarts: it should be a valid integer"),
        (
            RUNTIME,
            "runtime: {engine: comfyui, dynamicCheckpoint: true}",
            "runtime.dynamicCheckpoint: it is for sdwebui",
        ),
        (
            RUNTIME,
            "runtime: {engine: comfyui, scaling: {maxPods: 1, minPods: 2}}",
            "runtime.scaling.minPods: 2 are more",
        ),
        (RUNTIME, "runtime:\n  engine: comfyui\n  warmup: [1]", f"{RUNTIME}:3: runtime.warmup: it should be"),
        (RUNTIME, "runtime:\n  engine: comfyui\n  gpu: p5", f"{RUNTIME}:3: runtime.gpu: the cluster has no pool of p5"),
        (
            "runtimes/SDXL/runtime.yaml",
            "runtime: {engine: comfyui}",
            "SDXL:1: a runtime's folder is named by at most 32",
        ),
        ("runtimes/empty/README.md", "", "runtimes/empty/runtime.yaml:1: there is no such file"),
        ("runtimes/sdxl/workflows/up.yaml", f"workflows: {{up: {GRAPH}}}", "up.yaml:1: only ComfyUI has workflows"),
        (
            "runtimes/sdxl/workflows/up.yaml",
            f"workflows: {{down: {GRAPH}}}",
            "workflows: it has one workflow, which is",
        ),
        (
            "runtimes/sdxl/workflows/up.yaml",
            'workflows:\n  up:\n    graph:\n      "1":\n        class_type: LoadImage\n        inputs: {image: /a}',
            "up.yaml:6: workflows.up.graph.1.inputs.image: a file is named by its plain path",
        ),
        (
            "runtimes/sdxl/workflows/up.yaml",
            f'workflows:\n  up:\n    {GRAPH[1:-1]}\n    inputs:\n      a: {{node: "4", field: b, type: string}}',
            "up.yaml:5: workflows.up.inputs.a.node: the graph has no node 4; there are 3",
        ),
        ("runtimes/sdxl/workflows/up.yml", "", "up.yml:1: it is not read: call it up.yaml"),
    ],
)
def test_what_is_wrong_is_said_with_its_file_line_and_field(folder: Path, file: str, text: str, said: str) -> None:
    write(folder / file, text)
    with pytest.raises(ClusterFileError, match=re.escape(said)):
        load_cluster(folder)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_files_and_lines(folder: Path) -> None:
    write(folder / "cluster.yaml", CLUSTER.replace("eu-west-1", "Mars"))
    write(folder / "runtimes" / "a" / "runtime.yaml", "runtime:\n  gpu: a100\n  capacity: mine\n")
    write(folder / "runtimes" / "b" / "runtime.yaml", "runtime: {")
    with pytest.raises(ClusterFileError) as error:
        load_cluster(folder)
    assert [(finding.path.parent.name, finding.line, finding.field) for finding in error.value.findings] == [
        ("ours", 1, "cluster.region"),
        ("a", 1, "runtime.engine"),
        ("a", 2, "runtime.gpu"),
        ("a", 3, "runtime.capacity"),
        ("b", 1, ""),
    ]


def test_a_runtime_takes_the_nodes_that_the_cluster_has(folder: Path) -> None:
    pools = "gpuNodes: {pools: [{gpu: g6e, capacity: spot, maxGpus: 2}, {gpu: p5}]}"
    write(folder / "cluster.yaml", CLUSTER.replace("}", f", {pools}}}"))
    write(folder / RUNTIME, "runtime: {engine: sdwebui, gpu: g6e, capacity: spot, scaling: {maxPods: 2}}")
    assert check_cluster(folder)[1] == []
    write(folder / RUNTIME, "runtime: {engine: sdwebui, gpu: g6e, capacity: on-demand}")
    with pytest.raises(ClusterFileError, match=r"runtime\.capacity: the cluster's pool of g6e is spot alone"):
        load_cluster(folder)
    write(folder / RUNTIME, "runtime: {engine: sdwebui, gpu: g6e}")
    (note,) = check_cluster(folder)[1]
    assert not note.is_error
    assert "has 2 GPUs at most" in note.words
    assert load_cluster(folder).runtimes["sdxl"].scaling.max_pods == 4


def test_images_that_are_not_built_yet_are_a_note(folder: Path) -> None:
    digest = f"example.com/agent@sha256:{0:064}"
    write(folder / "images.yaml", f"images: {{agent: '{digest}', api: ''}}")
    (note,) = check_cluster(folder)[1]
    assert not note.is_error
    assert note.words.startswith("empty: api, function, sdwebui, comfyui;")
    assert load_cluster(folder).images.agent == digest


def test_a_runtime_of_comfyui_has_its_workflows_by_their_names(folder: Path) -> None:
    write(folder / RUNTIME, "runtime: {engine: comfyui}")
    write(folder / "runtimes" / "sdxl" / "workflows" / "up.yaml", f"workflows: {{up: {GRAPH}}}")
    (workflow,) = load_cluster(folder).workflows["sdxl"].values()
    assert workflow.graph == {"3": {"class_type": "X", "inputs": {}}}


def test_the_workflows_of_a_runtime_have_a_limit_together(folder: Path) -> None:
    write(folder / RUNTIME, "runtime: {engine: comfyui}")
    for name in ("a", "b", "c"):
        graph = f'{{"3": {{class_type: X, inputs: {{a: {"x" * 200_000}}}}}}}'
        write(folder / "runtimes" / "sdxl" / "workflows" / f"{name}.yaml", f"workflows: {{{name}: {{graph: {graph}}}}}")
    with pytest.raises(ClusterFileError, match=r"workflows:1: all of a runtime have 600\d+ bytes of JSON, and 524288"):
        load_cluster(folder)


def test_what_begins_with_a_dot_and_files_are_no_runtimes(folder: Path) -> None:
    write(folder / "runtimes" / ".idea" / "x", "")
    write(folder / "runtimes" / "README.md", "")
    assert list(load_cluster(folder).runtimes) == ["sdxl"]


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
    with pytest.raises(ClusterFileError, match=r"cluster\.yaml:1: there is no such file"):
        load_cluster(tmp_path)


def test_there_are_no_more_runtimes_than_sns_has_filters_for(folder: Path) -> None:
    for number in range(199):
        write(folder / "runtimes" / f"r{number}" / "runtime.yaml", "runtime: {engine: comfyui}\n")
    assert len(load_cluster(folder).runtimes) == 200
    write(folder / "runtimes" / "one-more" / "runtime.yaml", "runtime: {engine: comfyui}\n")
    with pytest.raises(ClusterFileError, match=r"runtimes:1: 201 runtimes; a cluster has at most 200"):
        load_cluster(folder)
