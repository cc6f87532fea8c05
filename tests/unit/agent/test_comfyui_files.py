"""What of ComfyUI's files is deleted, and what is not: beside the demo's ComfyUI, and on a real disk."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from darkroom_agent.engines.comfyui import ComfyUI
from darkroom_agent.engines.comfyui_files import Leftovers, input_name
from darkroom_agent.errors import WorkflowFailedError
from darkroom_agent.settings import Settings
from darkroom_demo.server import serving
from tests.unit.agent.support import picture, workflow, workflow_with_input
from tests.unit.agent.test_comfyui_client import client, generate

HOUR = 3600


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which demo runtimes keep their files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def comfyui(disk: Path) -> Iterator[tuple[str, Path]]:
    """A demo's URL and its folder."""
    with serving(engine="comfyui") as server:
        [folder] = disk.iterdir()
        yield server.url, folder


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def neat(url: str, folder: Path, **settings: Any) -> ComfyUI:
    folders = {"engine_output_folder": folder / "output", "engine_input_folder": folder / "input"}
    return client(url, **folders, **settings)


def leftovers(folder: Path) -> Leftovers:
    required = dict.fromkeys(["queue_url", "dead_letter_queue_url", "result_topic_arn"], "q")
    others = {"output_bucket": "outputs", "engine": "comfyui", "runtime_name": "sdxl", "runtime_url": "http://x"}
    folders = {"engine_output_folder": folder, "engine_input_folder": folder}
    return Leftovers(Settings.model_validate({**required, **others, **folders}))


def named(filename: str, subfolder: str = "", kind: str = "output") -> dict[str, str]:
    return {"filename": filename, "subfolder": subfolder, "type": kind}


def aged(path: Path, seconds: float) -> Path:
    path.write_bytes(b"old")
    os.utime(path, (time.time() - seconds,) * 2)
    return path


# Beside an engine


def test_what_a_job_made_is_deleted_once_the_agent_has_it(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    output = generate(neat(url, folder), workflow())
    assert len(output.pictures) == 1
    assert files_in(folder) == []


def test_nothing_is_deleted_where_the_folders_are_not_named(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    generate(client(url), workflow())
    assert files_in(folder) == ["ComfyUI_00001_.png"]


def test_what_somebody_else_saved_stays(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    (folder / "output" / "ComfyUI_00001_.png").write_bytes(picture())
    generate(neat(url, folder), workflow())
    assert files_in(folder) == ["ComfyUI_00001_.png"]


def test_a_job_that_was_made_before_is_saved_again_and_deleted_again(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    engine = neat(url, folder)
    outputs = [generate(engine, workflow()) for _ in range(3)]
    assert len({len(output.pictures) for output in outputs}) == 1
    assert files_in(folder) == []


def test_a_job_that_was_made_before_in_part_is_saved_whole(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    engine, nodes = neat(url, folder), workflow()
    for prefix in ("first", "second"):
        nodes["10"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": prefix}}
        assert len(generate(engine, nodes).pictures) == 2
    assert files_in(folder) == []


def test_a_preview_that_was_made_before_is_made_again(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    nodes = workflow()
    nodes["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    engine = neat(url, folder)
    assert all(generate(engine, nodes).pictures for _ in range(2))


def test_a_cached_file_is_not_taken_for_that_of_another_job_with_its_name(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    engine = neat(url, folder)
    [first] = generate(engine, workflow()).pictures
    (folder / "output" / "ComfyUI_00001_.png").write_bytes(b"another job's")
    [again] = generate(engine, workflow()).pictures
    assert again != b"another job's"
    assert files_in(folder) == ["ComfyUI_00001_.png"]
    assert len(again) >= len(first) > 100


def test_what_a_failed_job_made_is_deleted_too(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    nodes = workflow()
    nodes["20"] = {"class_type": "DemoFail", "inputs": {"images": ["8", 0], "message": "it fails"}}
    nodes["21"] = {"class_type": "PreviewImage", "inputs": {"images": ["20", 0]}}
    with pytest.raises(WorkflowFailedError):
        generate(client(url), nodes)
    assert files_in(folder) == ["ComfyUI_00001_.png"]
    nodes["3"]["inputs"]["seed"] += 1
    with pytest.raises(WorkflowFailedError):
        generate(neat(url, folder), nodes)
    assert files_in(folder) == ["ComfyUI_00001_.png"]


def test_an_input_stays_for_as_long_as_a_job_may_need_it(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    engine = neat(url, folder, job_timeout_seconds=HOUR)
    name = engine.attach(picture())
    os.utime(folder / "input" / name, (time.time() - 5 * HOUR,) * 2)
    assert engine.attach(picture()) == name
    assert generate(engine, workflow_with_input(name)).pictures
    assert files_in(folder) == [name]
    os.utime(folder / "input" / name, (time.time() - 5 * HOUR,) * 2)
    other = engine.attach(picture(colour="red"))
    assert files_in(folder) == [other]


# On the disk


def test_a_file_in_a_subfolder_and_a_temporary_one_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "temp").mkdir()
    for file in (tmp_path / "a" / "b" / "x.png", tmp_path / "temp" / "y.png", tmp_path / "z.png"):
        file.touch()
    leftovers(tmp_path).delete([named("x.png", "a/b"), named("y.png", kind="temp"), named("gone.png")])
    assert files_in(tmp_path) == ["z.png"]


@pytest.mark.parametrize(
    "file",
    [
        named("../precious"),
        named("precious", ".."),
        named("precious", "a/../.."),
        named("x/../../precious"),
        named("precious", "link"),
        named("precious", kind="input"),
        named(".."),
        named("a"),
        named("a\0"),
    ],
    ids=str,
)
def test_nothing_outside_the_folder_is_deleted(tmp_path: Path, file: dict[str, str]) -> None:
    folder, precious = tmp_path / "outputs", tmp_path / "precious"
    (folder / "a").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    precious.touch()
    leftovers(folder).delete([file])
    leftovers(folder).delete([{**file, "subfolder": str(tmp_path)}])
    assert precious.exists()
    assert (folder / "a").is_dir()


def test_of_a_symbolic_link_the_link_is_deleted(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "x.png"
    target.touch()
    link.symlink_to(target)
    leftovers(tmp_path).delete([named("x.png")])
    assert target.exists()
    assert not link.is_symlink()


def test_of_the_inputs_only_old_ones_of_agents_are_deleted(tmp_path: Path) -> None:
    old, wanted, young = (tmp_path / input_name(picture(colour=colour)) for colour in ("red", "green", "blue"))
    aged(old, 2 * HOUR)
    aged(wanted, 2 * HOUR)
    aged(young, HOUR / 2)
    aged(tmp_path / "mine.png", 1000 * HOUR)
    leftovers(tmp_path).keep_input(wanted.name)
    assert files_in(tmp_path) == sorted(["mine.png", wanted.name, young.name])


def test_folders_that_are_not_there_keep_no_job_from_running(comfyui: tuple[str, Path]) -> None:
    url, folder = comfyui
    engine = neat(url, folder / "elsewhere")
    name = engine.attach(picture())
    assert generate(engine, workflow_with_input(name)).pictures
    assert httpx.get(f"{url}/view", params={"filename": "ComfyUI_00001_.png"}).status_code == 200
