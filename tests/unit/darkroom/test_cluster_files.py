"""A cluster's folder is read whole, and what is wrong in it is said with its file and field."""

import re
import shutil
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
        (
            RUNTIME,
            'runtime: {engine: comfyui, accepting: "yes"}',
            "runtime.accepting: it has to be true or false, without quotes",
        ),
        (
            RUNTIME,
            'runtime: {engine: comfyui, maxStarts: "3"}',
            "runtime.maxStarts: it has to be a whole number, without",
        ),
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
        (
            RUNTIME,
            "runtime:\n  engine: comfyui\n  warmup: [1]",
            f"{RUNTIME}:3: runtime.warmup: it has to have lines below it",
        ),
        (RUNTIME, "runtime:\n  engine: comfyui\n  gpu: p5", f"{RUNTIME}:3: runtime.gpu: the cluster has no pool of p5"),
        (
            RUNTIME,
            "runtime:\n  engine: comfyui\n  resources:\n    memory: 13Gi",
            "Mountpoint above all: ask for at most 12Gi, or more than 16Gi for a larger machine",
        ),
        (RUNTIME, "runtime: {engine: comfyui, resources: {cpu: 3500m}}", "runtime.resources.cpu: a machine of g5 with"),
        (
            RUNTIME,
            "runtime: {engine: comfyui, resources: {memory: 999Gi}}",
            "runtime.resources.memory: a machine of g5 with 128Gi for each GPU has no room then",
        ),
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
        (
            "runtimes/sdxl/runtime.yaml",
            "runtime: {engine: comfyui, checkpoint: checkpoints/xl.ckpt}",
            "runtime.checkpoint: name it as it is in checkpoints/: xl.ckpt",
        ),
        ("runtimes/sdxl/workflows/up.yml", "", "up.yml:1: it is not read: call it up.yaml"),
        ("runtimes/sdxl/workflows/up.json", "{}", "it is not read: write it into up.yaml, as workflows.up.graph"),
        ("runtimes/sdxl/workflows/large/up.yaml", "", "large:1: it is not read: move its files up, beside it"),
        ("runtimes/sdxl/workflow/up.yaml", "", "sdxl/workflow:1: it is not read: call it workflows"),
        ("runtimes/sdxl/models/xl.ckpt", "", "models:1: it is not read: only runtime.yaml and the files in workflows/"),
        ("runtimes/sdxl/up.yaml", "", "sdxl/up.yaml:1: it is not read: a workflow would be workflows/up.yaml"),
        ("runtimes/flux/runtime.yml", "", "flux/runtime.yml:1: it is not read: call it runtime.yaml"),
        ("runtimes/flux.yaml", "", "flux.yaml:1: it is not read: a runtime is a folder: move it to flux/runtime.yaml"),
        ("image.yaml", "", "image.yaml:1: it is not read: call it images.yaml"),
    ],
)
def test_what_is_wrong_is_said_with_its_file_line_and_field(folder: Path, file: str, text: str, said: str) -> None:
    write(folder / file, text)
    with pytest.raises(ClusterFileError, match=re.escape(said)):
        load_cluster(folder)


@pytest.mark.parametrize("asked", ["cpu: 3, memory: 12288Mi", "cpu: 7, memory: 13Gi", "memory: 17Gi", "cpu: 6"])
def test_an_engine_may_ask_for_what_leaves_room_on_its_machine(folder: Path, asked: str) -> None:
    write(folder / RUNTIME, f"runtime: {{engine: sdwebui, resources: {{{asked}}}}}")
    assert check_cluster(folder)[1] == []


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


def test_a_workflow_with_a_node_that_its_runtime_does_not_run_is_refused(folder: Path) -> None:
    write(folder / RUNTIME, "runtime: {engine: comfyui, deniedNodes: [Load*, X]}\n")
    write(folder / "runtimes/sdxl/workflows/up.yaml", f"workflows:\n  up:\n    {GRAPH[1:-1]}\n")
    (finding,) = (each for each in check_cluster(folder)[1] if each.is_error)
    assert str(finding).endswith(
        "workflows/up.yaml:3: workflows.up.graph.3.class_type: the runtime does not run X, since its deniedNodes have X"
        ": change one of them"
    )


def test_what_is_no_description_may_lie_about_and_is_a_note(folder: Path) -> None:
    for path in ("runtimes/.DS_Store", "runtimes/sdxl/README.md", "runtimes/sdxl/readme.txt", "notes/x.yaml"):
        write(folder / path, "")
    assert check_cluster(folder)[1] == []
    write(folder / "runtimes" / "sdxl" / "runtime.yaml.bak", "")
    (note,) = check_cluster(folder)[1]
    assert (note.words, note.is_error) == ("it is not read: nothing needs it", False)


def test_a_cluster_that_argo_cd_keeps_has_its_images_file(folder: Path) -> None:
    write(folder / "cluster.yaml", CLUSTER.replace("}", ", gitops: {repository: git@github.com:ours/darkroom.git}}"))
    with pytest.raises(ClusterFileError, match=r"images\.yaml:1: there is no such file, and Argo CD needs it: copy"):
        load_cluster(folder)
    write(folder / "images.yaml", "images: {}")
    assert load_cluster(folder).cluster.gitops


def test_what_is_left_of_the_example_is_said(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "clusters" / "example", tmp_path / "example")
    assert not any(finding.is_error for finding in check_cluster(tmp_path / "example")[1])
    (tmp_path / "example").rename(tmp_path / "ours")
    text = (tmp_path / "ours" / "cluster.yaml").read_text().replace("name: example", "name: ours", 1)
    write(tmp_path / "ours" / "cluster.yaml", text)
    findings = check_cluster(tmp_path / "ours")[1]
    errors = [finding for finding in findings if finding.is_error and finding.path.name == "cluster.yaml"]
    assert [error.field for error in errors] == ["cluster.account", "cluster.eksName", "cluster.gitops.repository"]
    assert all(error.words.startswith("it is still as in clusters/example: say ") for error in errors)
    write(tmp_path / "ours" / "cluster.yaml", f"{text}  emulator: {{endpoint: http://10.0.0.1}}\n")
    assert load_cluster(tmp_path / "ours").cluster.emulator


def test_the_file_of_the_eks_cluster_is_about_the_same_cluster(tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    shutil.copytree(ROOT / "clusters" / "example", folder)
    text = (folder / "cluster.yaml").read_text().replace("eu-west-1", "us-east-2")
    write(
        folder / "cluster.yaml",
        text.replace("eksName: example", "eksName: gpus").replace("name: example", "name: ours"),
    )
    found = [finding for finding in check_cluster(folder)[1] if finding.path.name == "eksctl.yaml"]
    assert [(each.line, each.field, each.words) for each in found] == [
        (7, "metadata.name", "it has to be gpus, as cluster.eksName in cluster.yaml"),
        (8, "metadata.region", "it has to be us-east-2, as cluster.region in cluster.yaml"),
        (12, "metadata.tags.darkroom.dev/cluster", "it has to be ours, as cluster.name in cluster.yaml"),
    ]
    write(folder / "eksctl.yaml", "metadata: [")
    assert any("not YAML" in str(finding) for finding in check_cluster(folder)[1])


def test_a_filter_by_a_runtime_that_there_is_not_is_a_note(folder: Path) -> None:
    one = "{name: me, protocol: email, endpoint: me@ours.net, filter: {runtime: [sdxl, sdlx]}}"
    write(folder / "cluster.yaml", CLUSTER.replace("}", f", subscribers: [{one}]}}"))
    (note,) = check_cluster(folder)[1]
    assert (note.field, note.is_error) == ("cluster.subscribers[0].filter.runtime[1]", False)
    assert note.words == "the cluster has no runtime sdlx; there are sdxl"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"3": {class_type: X, inputs: {}}', "up.yaml:1: this is a graph alone: put it under workflows.up.graph"),
        ('workflows: {"3": {class_type: X}}', "workflows: this is a graph alone: put it under workflows.up.graph"),
        ('workflows: {up: {"3": {class_type: X}}}', "workflows.up: this is a graph alone: put it under workflows.up"),
        ("{nodes: [], links: []}", "this is the editor's file: take that of ComfyUI's menu Export (API), and put it"),
    ],
)
def test_an_exported_graph_is_one_finding(folder: Path, text: str, said: str) -> None:
    write(folder / RUNTIME, "runtime: {engine: comfyui}")
    write(folder / "runtimes" / "sdxl" / "workflows" / "up.yaml", text)
    (finding,) = check_cluster(folder)[1]
    assert said in str(finding)


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


def test_a_folder_that_is_not_there_is_said_with_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(ClusterFileError, match=r"none:1: there is no such folder: .* copy clusters/example"):
        load_cluster(tmp_path / "none")


def test_there_are_no_more_runtimes_than_sns_has_filters_for(folder: Path) -> None:
    for number in range(199):
        write(folder / "runtimes" / f"r{number}" / "runtime.yaml", "runtime: {engine: comfyui}\n")
    assert len(load_cluster(folder).runtimes) == 200
    write(folder / "runtimes" / "one-more" / "runtime.yaml", "runtime: {engine: comfyui}\n")
    with pytest.raises(ClusterFileError, match=r"runtimes:1: 201 runtimes; a cluster has at most 200"):
        load_cluster(folder)
