"""The read-ahead of model files, as the command that it is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from darkroom_agent import readahead
from tests.unit.agent.support import eventually

COMMAND = [sys.executable, "-m", "darkroom_agent.readahead"]
DEADLINE = 30
#: More than a pipe holds: writing it returns when it is being read.
MUCH = b"\0" * 200_000


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False)


def lines(output: str, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, output.splitlines()) if line["event"] == event]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two models, one of them larger than a block."""
    folder = tmp_path / "models"
    (folder / "vae").mkdir(parents=True)
    (folder / "sdxl.safetensors").write_bytes(b"\1" * 9_000_000)
    (folder / "vae" / "vae.safetensors").write_bytes(b"\2" * 1_000)
    return folder


def test_a_folder_is_read_with_all_that_is_in_it(models: Path) -> None:
    done = run(models)
    assert done.returncode == 0
    sizes = {Path(line["path"]).name: line["bytes"] for line in lines(done.stdout, "file read")}
    assert sizes == {"sdxl.safetensors": 9_000_000, "vae.safetensors": 1_000}
    [total] = lines(done.stdout, "read ahead")
    assert (total["files"], total["bytes"]) == (2, 9_001_000)
    assert total["seconds"] >= 0
    assert total["megabytes_per_second"] > 0


def test_several_files_may_be_read_side_by_side(models: Path) -> None:
    done = run(models / "sdxl.safetensors", models / "vae" / "vae.safetensors", "--parallel", "2")
    [total] = lines(done.stdout, "read ahead")
    assert (done.returncode, total["bytes"]) == (0, 9_001_000)


def test_a_file_that_is_reached_in_two_ways_is_read_once(models: Path) -> None:
    (models / "default.safetensors").symlink_to(models / "sdxl.safetensors")
    [total] = lines(run(models, models / "vae").stdout, "read ahead")
    assert (total["files"], total["bytes"]) == (2, 9_001_000)


def test_a_path_that_is_not_there_is_named_and_nothing_is_read(models: Path) -> None:
    done = run(models, models / "flux.safetensors")
    assert done.returncode == 2
    [line] = lines(done.stdout, "there is no such file or folder")
    assert line["path"] == str(models / "flux.safetensors")
    assert lines(done.stdout, "file read") == []


def test_what_cannot_be_read_is_named_and_the_rest_is_read(models: Path) -> None:
    ready = models.parent / "ready"
    (models / "lost.safetensors").symlink_to(models / "nowhere")
    done = run("--forever", "--ready-file", ready, models)
    assert done.returncode == 1
    [line] = lines(done.stdout, "not read")
    assert (line["path"], line["reason"]) == (str(models / "nowhere"), "No such file or directory")
    assert len(lines(done.stdout, "file read")) == 2
    assert not ready.exists()


def test_a_folder_without_a_file_is_an_error_since_its_volume_may_not_be_mounted(models: Path) -> None:
    (models / "loras" / "styles").mkdir(parents=True)
    assert run(models).returncode == 0
    done = run(models / "loras", models / "sdxl.safetensors")
    assert done.returncode == 1
    [line] = lines(done.stdout, "not read")
    assert (line["path"], line["reason"]) == (str(models / "loras"), "there is no file in it")
    assert len(lines(done.stdout, "file read")) == 1


def test_its_help_says_what_its_exit_status_means() -> None:
    said = " ".join(run("--help").stdout.split())
    assert "1 when something could not be or a folder has no file in it" in said


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a file that opens and does not read")
def test_a_read_that_fails_is_named() -> None:
    done = run("/proc/self/mem")
    assert done.returncode == 1
    [line] = lines(done.stdout, "not read")
    assert line["path"].endswith("/mem")
    assert line["reason"] == "Input/output error"


@pytest.mark.parametrize("arguments", [(), ("--parallel", "0", "."), ("--unknown", ".")])
def test_a_wrong_command_line_is_explained(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_it_stops_at_once_on_sigterm_while_a_read_hangs(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)
    with subprocess.Popen([*COMMAND, hanging], stdout=subprocess.PIPE, text=True) as process:
        with hanging.open("wb", buffering=0) as writer:
            writer.write(MUCH)
            process.terminate()
            assert process.wait(DEADLINE) == 128 + 15
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_a_sidecar_is_ready_when_everything_is_read_and_stays(tmp_path: Path) -> None:
    model, ready = tmp_path / "model", tmp_path / "ready"
    os.mkfifo(model)
    ready.touch()  # left by a run before
    with subprocess.Popen([*COMMAND, model, "--forever", "--ready-file", ready], stdout=subprocess.PIPE) as process:
        with model.open("wb", buffering=0) as writer:
            writer.write(MUCH)
            assert not ready.exists()
        eventually(ready.exists)
        assert process.poll() is None
        process.terminate()
        assert process.wait(DEADLINE) == 0


def test_a_long_read_says_how_far_it_is(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readahead, "_PROGRESS_SECONDS", 0)
    with caplog.at_level("INFO", "darkroom_agent"):
        assert readahead.read_ahead([models / "sdxl.safetensors"], 1)
    said = [record.__dict__["bytes"] for record in caplog.records if record.message == "reading"]
    assert said == [8 * 1024 * 1024, 9_000_000]
