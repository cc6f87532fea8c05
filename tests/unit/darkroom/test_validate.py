"""``darkroom validate`` says everything that is wrong in clusters' folders, and what was removed too soon."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from darkroom.cli import app
from darkroom.cluster_files import check_cluster

CLUSTER = 'cluster: {name: ours, account: "123456789012", region: eu-west-1, eksName: ours}\n'
SDXL = "clusters/ours/runtimes/sdxl/runtime.yaml"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one cluster and one runtime, whose branch ``main`` is the one that is served."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    git("init", "--quiet", "--initial-branch=main")
    write("clusters/ours/cluster.yaml", CLUSTER)
    write(SDXL, "runtime: {engine: sdwebui}\n")
    commit()
    git("checkout", "--quiet", "-b", "change")
    return tmp_path


def write(path: str, text: str) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments], check=True)


def commit() -> None:
    git("add", "--all")
    git("commit", "--quiet", "--message", "x")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["validate", *arguments])


@pytest.mark.usefixtures("repository")
def test_a_cluster_without_faults_is_said_to_be_one() -> None:
    done = run("--base", "main")
    assert (done.exit_code, done.output) == (0, "nothing is wrong in clusters/ours\n")


@pytest.mark.usefixtures("repository")
def test_each_fault_has_its_file_line_field_and_remedy_and_the_exit_status_is_1() -> None:
    write("clusters/ours/runtimes/flux/runtime.yaml", "runtime:\n  engine: comfyui\n  gpus: g5\n")
    write("clusters/theirs/cluster.yaml", "")
    done = run("--base", "main")
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "error clusters/ours/runtimes/flux/runtime.yaml:3: runtime.gpus: there is no such field; did you mean gpu?",
        "error clusters/theirs/cluster.yaml:1: the file has to have one key, cluster",
        "2 errors in clusters/ours, clusters/theirs",
    ]
    assert run("clusters/theirs", "--base", "main").output.endswith("1 error in clusters/theirs\n")


@pytest.mark.usefixtures("repository")
def test_faults_are_annotations_for_github() -> None:
    write("clusters/ours/runtimes/a,b:c/runtime.yaml", "runtime:\n  engine: sdwebui\n  checkpoint: 100%.ckpt\n  x: 1\n")
    write("clusters/ours/images.yaml", "images: {}\n")
    lines = run("--base", "main", "--format", "github").output.splitlines()
    folder = "clusters/ours/runtimes/a%2Cb%3Ac"
    assert lines[0].startswith("::notice file=clusters/ours/images.yaml,line=1::images: empty: agent, ")
    assert lines[1].startswith(f"::error file={folder},line=1::a runtime's folder is named by at most 32")
    assert lines[2].startswith(f"::error file={folder}/runtime.yaml,line=4::runtime.x: there is no such field; ")
    assert len(lines) == 3


@pytest.mark.usefixtures("repository")
def test_a_runtime_that_took_jobs_may_not_be_removed() -> None:
    shutil.rmtree(Path(SDXL).parent)
    commit()
    done = run("--base", "main")
    assert done.exit_code == 1
    said = (
        f"error {SDXL}:1: runtime.accepting: it was removed while it took jobs, which would be lost: bring the folder"
    )
    assert done.output.startswith(said)


@pytest.mark.usefixtures("repository")
def test_a_cluster_may_not_be_removed_with_a_runtime_that_took_jobs() -> None:
    write("clusters/theirs/cluster.yaml", CLUSTER.replace("ours", "theirs"))
    shutil.rmtree("clusters/ours")
    commit()
    done = run("--base", "main")
    assert done.exit_code == 1
    assert done.output.startswith(f"error {SDXL}:1: runtime.accepting: it was removed while it took jobs")
    assert run("clusters/theirs", "--base", "main").exit_code == 0


@pytest.mark.usefixtures("repository")
def test_a_runtime_that_took_no_jobs_any_more_may_be_removed() -> None:
    git("checkout", "--quiet", "main")
    write(SDXL, "runtime: {engine: sdwebui, accepting: false}\n")
    commit()
    git("checkout", "--quiet", "-b", "removal")
    git("rm", "--quiet", SDXL)
    assert run("--base", "main").exit_code == 0


@pytest.mark.usefixtures("repository")
def test_what_others_removed_or_added_in_the_meantime_is_not_laid_to_the_branch() -> None:
    git("checkout", "--quiet", "main")
    write("clusters/ours/runtimes/new/runtime.yaml", "runtime: {engine: sdwebui}\n")
    commit()
    git("checkout", "--quiet", "change")
    assert run("--base", "main").exit_code == 0


@pytest.mark.usefixtures("repository")
def test_a_removed_file_that_could_not_be_read_is_a_note() -> None:
    git("checkout", "--quiet", "main")
    write(SDXL, "runtime: [")
    commit()
    git("checkout", "--quiet", "-b", "removal")
    git("rm", "--quiet", SDXL)
    done = run("--base", "main")
    assert done.exit_code == 0
    assert "whether it took jobs its file did not say clearly" in done.output


@pytest.mark.usefixtures("repository")
def test_without_what_to_compare_with_the_rest_is_checked_all_the_same() -> None:
    done = run()
    assert done.exit_code == 0
    assert "note  clusters:1: not checked whether a runtime was removed too soon: " in done.output
    assert "nothing is wrong, 1 note in clusters/ours" in done.output
    assert "note  clusters/ours:1: not checked" in run("clusters/ours").output
    assert run("--base", "nowhere").exit_code == 1


@pytest.fixture
def clone(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shallow clone of one branch, as continuous integration makes it, that removes a runtime which took jobs."""
    shutil.rmtree(Path(SDXL).parent)
    commit()
    folder = repository / "clone"
    url = f"file://{repository}"
    git("clone", "--quiet", "--depth", "1", "--branch", "change", "--single-branch", url, str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("clone")
def test_a_clone_without_the_history_is_an_error_whose_remedy_helps() -> None:
    done = run()
    assert done.exit_code == 1
    remedy = "git fetch --unshallow origin +main:refs/remotes/origin/main"
    assert f"there is no origin/main, which Argo CD follows; fetch the whole history, {remedy}, or say" in done.output
    git(*remedy.split()[1:])
    done = run()
    assert f"error {SDXL}:1: runtime.accepting: it was removed while it took jobs" in done.output
    assert "not checked" not in done.output


@pytest.mark.usefixtures("clone")
def test_a_branch_that_was_fetched_without_its_history_is_an_error_too() -> None:
    git("fetch", "--quiet", "--depth", "1", "origin", "+main:refs/remotes/origin/main")
    done = run("clusters/ours")
    assert done.exit_code == 1
    assert "have nothing in common; fetch the whole history, git fetch --unshallow" in done.output


@pytest.mark.usefixtures("repository")
def test_for_continuous_integration_nothing_to_compare_with_is_an_error() -> None:
    done = run("--format", "github")
    assert done.exit_code == 1
    assert done.output.startswith("::error file=clusters,line=1::not checked whether a runtime was removed too soon")


@pytest.mark.usefixtures("clone")
def test_each_cluster_is_compared_with_what_it_follows() -> None:
    gitops = ", gitops: {repository: git@github.com:ours/darkroom.git, revision: live}}"
    write("clusters/ours/images.yaml", "images: {}\n")
    write("clusters/ours/cluster.yaml", CLUSTER.replace("}", gitops))
    assert "there is no origin/live" in run().output
    git("branch", "live")
    assert "there is no origin/live" in run().output
    git("update-ref", "refs/remotes/origin/live", "HEAD")
    assert "not checked" not in run().output
    lines = run("--format", "github").output.splitlines()
    assert any("notice file=clusters,line=1::compared with itself, since origin/live" in line for line in lines)
    git("fetch", "--quiet", "--unshallow", "origin", "+main:refs/remotes/origin/live")
    done = run()
    assert "runtime.accepting: it was removed while it took jobs" in done.output
    git("update-ref", "-d", "refs/remotes/origin/live")
    git("tag", "live", "FETCH_HEAD")
    assert run().output == done.output


@pytest.mark.usefixtures("repository")
def test_clusters_are_found_from_within_and_a_part_of_one_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (SDXL, "clusters/ours/runtimes/sdxl", "clusters/ours/cluster.yaml"):
        done = run(part, "--base", "main")
        assert done.exit_code == 1
        assert f"error {part}:1: give the cluster's folder, clusters/ours\n" in done.output
    assert "give the cluster's folder, clusters/ours say, or none for all clusters" in run("clusters").output
    monkeypatch.chdir("clusters/ours/runtimes")
    assert run("--base", "main").output == "nothing is wrong in ../../ours\n"
    shutil.rmtree("sdxl")
    done = run("--base", "main")
    assert done.output.startswith("error ../../ours/runtimes/sdxl/runtime.yaml:1: runtime.accepting: it was removed")


def test_a_folder_that_is_no_cluster_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name, words in (("", "cluster.yaml:1: "), ("none", "there is no such folder"), ("file", "cluster.yaml:1: ")):
        done = run(str(tmp_path / name))
        assert done.exit_code == 1
        assert words in done.output


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("style", ["human", "github"])
def test_a_name_that_is_no_text_is_said_nevertheless(style: str) -> None:
    workflow = os.fsdecode(b"clusters/ours/runtimes/flux/workflows/\xff.yaml")
    write(workflow, "workflows: {up: {graph: {'3': {class_type: X, inputs: {}}}}}")
    done = run("--base", "main", "--format", style)
    assert done.exit_code == 1
    assert "it has one workflow, which is called as the file: \N{REPLACEMENT CHARACTER}" in done.output


def test_without_any_cluster_nothing_can_be_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run()
    assert done.exit_code == 1
    assert done.output == "clusters: No such file or directory\n"


_CONTENTS = st.binary(max_size=60) | st.sampled_from(
    [
        CLUSTER.encode(),
        b"runtime: {engine: comfyui}",
        b"workflows: {a: {graph: {'3': {class_type: X, inputs: {}}}}}",
        b"images: {agent: ''}",
        b"a: &a [*a]",
    ]
)
_NAMES = [
    *("cluster.yaml", "images.yaml", "runtimes/a/runtime.yaml", "runtimes/b/runtime.yaml", "runtimes/C/runtime.yaml"),
    *("runtimes/a/workflows/a.yaml", "runtimes/b/workflows/x.yml", "runtimes/b/workflows", "runtimes/d", "runtimes"),
    *("cluster.yaml/x", "images.yaml/x", "runtimes/e/runtime.yaml/x"),
]
_FILES = st.dictionaries(st.sampled_from(_NAMES), _CONTENTS)


@given(_FILES)
def test_whatever_is_in_a_folder_it_is_a_cluster_or_it_is_said_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("clusters") / "ours"
    for name, content in files.items():
        path = folder / name
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    cluster, findings = check_cluster(folder)
    assert (cluster is None) == any(finding.is_error for finding in findings)
    assert all(folder in (finding.path, *finding.path.parents) for finding in findings)
