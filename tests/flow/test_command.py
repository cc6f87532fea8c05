"""The ``darkroom`` command, run as a user runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

import darkroom_demo
from darkroom.local.stack import Stack
from tests.flow.conftest import ROOT
from tests.workflows import EXAMPLE

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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "a"], "nowhere"),
        (["Not A Runtime", "a"], "runtime"),
        (["comfyui", "a"], "workflow"),
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


def test_without_a_deployment_it_says_how_to_start_one(tmp_path: Path) -> None:
    run = darkroom(tmp_path, "prompt", "webui", "a")
    assert run.returncode == 2
    assert "make local" in run.stdout


@pytest.fixture
def real_comfyui() -> Iterator[str]:
    """A ComfyUI that the user runs."""
    with darkroom_demo.serving(engine="comfyui") as server:
        yield server.url


def test_local_serves_until_it_is_interrupted_and_leaves_nothing_behind(tmp_path: Path, real_comfyui: str) -> None:
    command: list[str | Path] = [
        DARKROOM,
        "local",
        "--cluster",
        str(ROOT / "clusters" / "local"),
        "--runtime-url",
        real_comfyui,
    ]
    local = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert local.stdout is not None
    said = []
    for line in local.stdout:
        said.append(line)
        if "Ctrl-C" in line:
            break
    assert real_comfyui in "".join(said)
    run = darkroom(tmp_path, "prompt", "comfyui", "a harbour", "--workflow", str(EXAMPLE))
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(pictures(tmp_path)) == 1
    assert len(httpx.get(f"{real_comfyui}/history").json()) == 1
    assert (tmp_path / ".demo" / "endpoint.json").stat().st_mode & 0o077 == 0
    children = psutil.Process(local.pid).children(recursive=True)
    assert len(children) >= 5  # emulator, a demo runtime, two agents, the function
    local.send_signal(signal.SIGINT)
    assert local.wait(60) == 0
    _, alive = psutil.wait_procs(children, timeout=0)
    assert not alive
    assert {path.name for path in (tmp_path / ".demo").iterdir()} == {"logs"}


def test_a_runtime_url_where_no_engine_answers_is_refused(tmp_path: Path, stack: Stack) -> None:
    cluster = str(ROOT / "clusters" / "local")
    run = darkroom(tmp_path, "local", "--cluster", cluster, "--runtime-url", stack.url)
    assert run.returncode == 1
    assert "neither a web UI" in " ".join(run.stdout.split())


def test_the_demo_shows_the_notification_and_saves_the_picture(tmp_path: Path) -> None:
    run = darkroom(tmp_path, "demo", "a blue hill", "--cluster", str(ROOT / "clusters" / "local"))
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = pictures(tmp_path)
    assert path.name in "".join(run.stdout.split())
    assert "completed" in run.stdout
