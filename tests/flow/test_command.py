"""The ``darkroom`` command, run as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from darkroom.local.stack import Stack
from darkroom_demo.server import serving
from tests.flow.conftest import INPUTS_RUNTIME, ROOT
from tests.workflows import EXAMPLE

LOCAL_CLUSTER = ROOT / "clusters" / "local"
DARKROOM = Path(sys.executable).with_name("darkroom")


def darkroom(folder: Path, *arguments: str, stack: Stack | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    if stack is not None:
        environment |= {"DARKROOM_URL": stack.url, "DARKROOM_API_KEY": stack.api_keys["studio"]}
    return subprocess.run(
        [DARKROOM, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def pictures(folder: Path) -> list[Path]:
    return sorted((folder / "pictures").glob("*.png"))


def test_a_prompt_becomes_a_picture_on_disk(tmp_path: Path, stack: Stack) -> None:
    run = darkroom(tmp_path, "prompt", "webui", "a red sun", "--seed", "7", "--steps", "4", stack=stack)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "completed" in run.stdout
    (path,) = pictures(tmp_path)
    picture = Image.open(path)
    assert picture.size == (512, 512)
    assert "a red sun" in picture.text["parameters"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [["webui"], ["comfyui", "--workflow", "landscape"]])
def test_words_that_could_not_be_drawn_are_said(tmp_path: Path, stack: Stack, arguments: list[str]) -> None:
    runtime, *options = arguments
    run = darkroom(tmp_path, "prompt", runtime, "a flurble and a fox", *options, "--steps", "1", stack=stack)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "note     unknown: flurble"


def test_a_picture_can_be_the_start_of_another(tmp_path: Path, stack: Stack) -> None:
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "start.png")
    run = darkroom(tmp_path, "prompt", "webui", "by night", "--image", "start.png", "--steps", "2", stack=stack)
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(pictures(tmp_path)) == 1


def test_a_workflow_runs_with_the_prompt_in_its_place(tmp_path: Path, stack: Stack) -> None:
    run = darkroom(tmp_path, "prompt", "comfyui", "a harbour", "--workflow", str(EXAMPLE), stack=stack)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = pictures(tmp_path)
    assert "a harbour" in Image.open(path).text["prompt"]  # type: ignore[attr-defined]


def test_a_workflow_of_the_runtime_runs_by_its_name(tmp_path: Path, stack: Stack) -> None:
    arguments = ["comfyui", "a harbour", "--workflow", "landscape", "--input", "steps=3", "--seed", "7"]
    run = darkroom(tmp_path, "prompt", *arguments, stack=stack)
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = pictures(tmp_path)
    graph = json.loads(Image.open(path).text["prompt"])  # type: ignore[attr-defined]
    assert graph["6"]["inputs"]["text"] == "a harbour"
    assert (graph["3"]["inputs"]["steps"], graph["3"]["inputs"]["seed"]) == (3, 7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["comfyui", "a", "--workflow", "portrait"], "has no workflow portrait; there are landscape"),
        (["comfyui", "a", "--workflow", "landscape", "--input", "steps=0"], "inputs.steps must be a whole number from"),
        (["webui", "a", "--workflow", "landscape"], "the runtime's engine is sdwebui, which has none"),
        (["nowhere", "a"], "nowhere"),
        (["Not A Runtime", "a"], "runtime"),
        (["comfyui", "a"], "comfyui is a runtime of ComfyUI, which draws by a workflow: add --workflow, with the NAME"),
        (["webui", " "], "the text is empty: say what to draw"),
        (["webui", "a", "--workflow", "start.json"], "not a workflow"),
    ],
)
def test_what_the_user_can_mend_is_said_in_a_sentence(
    tmp_path: Path, stack: Stack, arguments: list[str], said: str
) -> None:
    (tmp_path / "start.json").write_text('{"nodes": [], "links": []}')
    run = darkroom(tmp_path, "prompt", *arguments, stack=stack)
    assert run.returncode == 1
    assert said in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    assert stack.api_keys["studio"] not in run.stdout + run.stderr
    assert not pictures(tmp_path)


def test_words_that_mean_something_to_the_terminal_are_words(tmp_path: Path, stack: Stack) -> None:
    run = darkroom(tmp_path, "prompt", "no[/red]where", "a [/bold] word", stack=stack)
    assert (run.returncode, "Traceback" in run.stdout + run.stderr) == (1, False)


@contextmanager
def waiting_prompt(folder: Path, stack: Stack) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``darkroom prompt`` to a runtime that has no agent, and the job's id."""
    environment = {**os.environ, "DARKROOM_URL": stack.url, "DARKROOM_API_KEY": stack.api_keys["studio"]}
    command = [str(DARKROOM), "prompt", INPUTS_RUNTIME, "a"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().removeprefix("job ").strip()
        finally:
            process.kill()


def test_who_stops_watching_is_told_that_the_job_goes_on_and_how_to_cancel_it(tmp_path: Path, stack: Stack) -> None:
    with waiting_prompt(tmp_path, stack) as (process, job_id):
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "the job goes on" in said
    assert f"darkroom cancel {job_id}\n" in said
    assert darkroom(tmp_path, "cancel", job_id, stack=stack).stdout == f"job {job_id} cancelled\n"


def test_a_prompt_that_is_cancelled_says_so_once(tmp_path: Path, stack: Stack) -> None:
    with waiting_prompt(tmp_path, stack) as (process, job_id):
        assert darkroom(tmp_path, "cancel", job_id, stack=stack).returncode == 0
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "cancelled\n")


def test_a_folder_that_cannot_be_written_is_said_before_the_job_is_sent(tmp_path: Path, stack: Stack) -> None:
    (tmp_path / "pictures").write_text("a file")
    run = darkroom(tmp_path, "prompt", "webui", "a", stack=stack)
    assert (run.returncode, "pictures: File exists" in run.stdout) == (1, True)
    assert "job " not in run.stdout


def test_without_a_deployment_it_says_how_to_start_one(tmp_path: Path) -> None:
    run = darkroom(tmp_path, "prompt", "webui", "a")
    assert run.returncode == 2
    assert "make local" in run.stdout


@pytest.fixture
def real_comfyui() -> Iterator[str]:
    """A ComfyUI that the user runs."""
    with serving(engine="comfyui") as server:
        yield server.url


@contextmanager
def local(folder: Path, cluster: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``darkroom local``, up, and what it said."""
    command = [str(DARKROOM), "local", "--cluster", str(cluster), *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        try:
            yield process, said
        finally:
            process.kill()


def test_local_serves_until_it_is_interrupted_and_leaves_nothing_behind(tmp_path: Path, real_comfyui: str) -> None:
    with local(tmp_path, LOCAL_CLUSTER, "--runtime-url", real_comfyui) as (process, said):
        assert real_comfyui in said
        [(url, api_key)] = re.findall(r"export DARKROOM_URL=(\S+) DARKROOM_API_KEY=(\S+)$", said, re.MULTILINE)
        assert httpx.get(f"{url}/v1/jobs/unknown", headers={"x-api-key": api_key}).status_code == 404
        letters = darkroom(tmp_path, "runtime", "redrive", "webui", "--cluster", str(LOCAL_CLUSTER))
        assert (letters.returncode, "there are no dead letters" in letters.stdout) == (0, True)
        run = darkroom(tmp_path, "prompt", "comfyui", "a harbour", "--workflow", str(EXAMPLE))
        assert run.returncode == 0, run.stdout + run.stderr
        assert len(pictures(tmp_path)) == 1
        assert not (tmp_path / ".demo" / "logs" / "local" / "runtime-comfyui.log").exists()  # the real one drew it
        [agent] = re.findall(r"comfyui .* (http://127.0.0.1:\d+) *│$", said, re.MULTILINE)
        assert "darkroom_engine_ready" in httpx.get(f"{agent}/metrics").text
        assert (tmp_path / ".demo" / "endpoint.json").stat().st_mode & 0o077 == 0
        second = darkroom(tmp_path, "local", "--cluster", str(LOCAL_CLUSTER))
        assert (second.returncode, "runs in this folder already" in second.stdout) == (1, True)
        assert (tmp_path / ".demo" / "endpoint.json").exists()
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 5  # emulator, a demo runtime, two agents, the function
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        _, alive = psutil.wait_procs(children, timeout=0)
        assert not alive
    assert {path.name for path in (tmp_path / ".demo").iterdir()} == {"logs"}


@pytest.fixture
def other_cluster(tmp_path: Path) -> Path:
    """A cluster in another account and region, with ComfyUI alone and without the tenant default."""
    folder = tmp_path / "other"
    (folder / "runtimes" / "comfy").mkdir(parents=True)
    (folder / "runtimes" / "comfy" / "runtime.yaml").write_text("runtime: {engine: comfyui}\n")
    (folder / "cluster.yaml").write_text(
        'cluster: {name: other, account: "444455556666", region: eu-west-1, eksName: other, tenants: [{name: ours}]}\n'
    )
    return folder


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_local_leaves_no_process_behind_however_it_ends(
    tmp_path: Path, other_cluster: Path, number: signal.Signals, status: int
) -> None:
    with local(tmp_path, other_cluster) as (process, _):
        run = darkroom(tmp_path, "prompt", "comfy", "a harbour", "--workflow", str(EXAMPLE))
        assert run.returncode == 0, run.stdout + run.stderr
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(60) == status
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive


def test_the_demo_says_which_runtime_it_misses(tmp_path: Path, other_cluster: Path) -> None:
    run = darkroom(tmp_path, "demo", "--cluster", str(other_cluster))
    assert run.returncode == 1
    assert "no runtime with engine: sdwebui" in " ".join(run.stdout.split())


@pytest.mark.parametrize(
    ("given", "missing"), [("DARKROOM_URL", "DARKROOM_API_KEY"), ("DARKROOM_API_KEY", "DARKROOM_URL")]
)
def test_half_of_what_a_deployment_needs_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, missing: str
) -> None:
    monkeypatch.setenv(given, "http://127.0.0.1:1")
    monkeypatch.delenv(missing, raising=False)
    run = subprocess.run(
        [DARKROOM, "prompt", "webui", "a"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert f"{missing} is missing" in run.stdout


def test_a_runtime_url_where_no_engine_answers_is_refused(tmp_path: Path, stack: Stack) -> None:
    run = darkroom(tmp_path, "local", "--cluster", str(LOCAL_CLUSTER), "--runtime-url", stack.url)
    assert run.returncode == 1
    assert "neither a web UI" in " ".join(run.stdout.split())


def test_the_demo_shows_the_notification_and_saves_the_picture(tmp_path: Path) -> None:
    run = darkroom(tmp_path, "demo", "a blue hill", "--cluster", str(LOCAL_CLUSTER))
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = pictures(tmp_path)
    assert path.name in "".join(run.stdout.split())
    assert "completed" in run.stdout
