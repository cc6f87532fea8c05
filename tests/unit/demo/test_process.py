import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from darkroom_demo.server import DemoServer, Engine, Settings, serve, serving
from tests.unit.demo.comfyui_client import workflow


def started(tmp_path: Path, *arguments: str, stderr: int | None = None) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    command = [sys.executable, "-m", "darkroom_demo", "--port", "0", *arguments]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("engine", "path"), [("sdwebui", "/sdapi/v1/memory"), ("comfyui", "/system_stats")])
def test_a_process_says_where_it_listens_and_leaves_nothing_behind(
    tmp_path: Path, engine: str, path: str, number: signal.Signals
) -> None:
    process, line = started(tmp_path, "--engine", engine, "--load-seconds", "0.01")
    with process:
        assert (line["event"], line["engine"]) == ("listening", engine)
        assert httpx.get(line["url"] + path).status_code == 200
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("engine", "path", "content"),
    [
        ("sdwebui", "/sdapi/v1/txt2img", {"prompt": "a flurble and a fox", "steps": 1, "width": 64, "height": 64}),
        ("comfyui", "/prompt", {"prompt": workflow(text="a flurble and a fox", steps=1)}),
    ],
)
def test_a_process_logs_the_words_that_it_does_not_know_and_no_other(
    tmp_path: Path, engine: str, path: str, content: dict[str, Any]
) -> None:
    process, line = started(tmp_path, "--engine", engine, stderr=subprocess.PIPE)
    with process:
        assert process.stderr is not None
        assert httpx.post(line["url"] + path, json=content, timeout=30).status_code == 200
        assert process.stderr.readline().endswith(" INFO darkroom_demo.drawing unknown: flurble\n")
        process.terminate()
        assert process.stderr.read() == ""


def test_a_runtime_that_is_still_loading_does_not_listen_and_stops_at_once() -> None:
    listening: list[DemoServer] = []

    async def stop_while_loading() -> None:
        stop = asyncio.Event()
        settings = Settings("comfyui", port=0, load_seconds=3600)
        task = asyncio.create_task(serve(settings, stop, listening.append))
        await asyncio.sleep(0)
        assert not task.done()
        stop.set()
        await task

    asyncio.run(stop_while_loading())
    assert listening == []


@pytest.mark.parametrize("arguments", [["--engine", "nope"], ["--engine", "comfyui", "--seconds-per-step", "-1"], []])
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "darkroom_demo", *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_a_server_in_this_process_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    content = {"prompt": "a flurble", "steps": 1, "width": 64, "height": 64}
    with serving("sdwebui") as server:
        assert httpx.post(f"{server.url}/sdapi/v1/txt2img", json=content, timeout=30).status_code == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
def test_a_server_in_this_process_stops_with_its_context(engine: Engine) -> None:
    with serving(engine) as server:
        assert server.engine == engine
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)
