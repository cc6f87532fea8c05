"""The workflows start when they should, and what they run is there."""

import re
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from darkroom.cli import app
from darkroom.images import IMAGES

ROOT = Path(__file__).parents[3]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yaml")}
#: Each job by its workflow and name.
JOBS = {f"{name}/{job}": steps for name, workflow in WORKFLOWS.items() for job, steps in workflow["jobs"].items()}
#: YAML takes the key `on` for a boolean.
IMAGES_STARTED_BY: dict[str, Any] = WORKFLOWS["images"][True]["push"]
ACTIONS = [
    match.groups()
    for path in sorted((ROOT / ".github").rglob("*.yaml"))
    for match in re.finditer(r"uses: ([^.@\s][^@\s]*)@(\S+)(?: # (\S+))?$", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: image.name)
def test_what_goes_into_an_image_starts_its_build(image: Any) -> None:
    for path in (image.dockerfile, *image.paths):
        assert starts_images(path) or starts_images(f"{path}/any.py"), path


@pytest.mark.parametrize(
    "path", ["clusters/prod/images.yaml", "clusters/prod/runtimes/sdxl/runtime.yaml", "docs/pins.md"]
)
def test_a_pin_or_a_model_builds_no_image(path: str) -> None:
    assert not starts_images(path)


def test_images_are_built_of_the_branch_that_clusters_follow_unless_they_say_otherwise() -> None:
    assert IMAGES_STARTED_BY["branches"] == ["main"]


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_has_no_rights_but_those_of_its_jobs(workflow: str) -> None:
    assert WORKFLOWS[workflow]["permissions"] == {}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_says_its_rights_and_how_long_it_may_take(job: str) -> None:
    assert JOBS[job]["permissions"]
    assert "uses" in JOBS[job] or JOBS[job]["timeout-minutes"] <= 120


def test_what_is_called_has_the_rights_that_its_jobs_ask_for() -> None:
    asked = {right for job in WORKFLOWS["pin"]["jobs"].values() for right in job["permissions"].items()}
    given = JOBS["images/pin"]["permissions"].items()
    assert {right for right in asked if right[1] == "write"} == set(given)


def test_only_a_pin_may_write_to_the_repository() -> None:
    assert {name for name, job in JOBS.items() if job["permissions"].get("contents") == "write"} == {
        "images/pin",
        "pin/pin",
    }


def test_an_action_is_of_one_commit_everywhere_and_the_version_is_said_beside_it() -> None:
    versions = defaultdict(set)
    for action, commit, version in ACTIONS:
        assert re.fullmatch("[0-9a-f]{40}", commit), action
        assert re.fullmatch(r"v\d+\.\d+\.\d+", version or ""), f"{action} has no version behind a #"
        versions["/".join(action.split("/")[:2])].add((commit, version))
    assert not {action: found for action, found in versions.items() if len(found) > 1}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (program, words.split())
        for path in sorted((ROOT / ".github").rglob("*.yaml"))
        for program, words in re.findall(r"(\.venv/bin/darkroom|make)((?: [a-z][a-z0-9-]*)+)", path.read_text())
    ],
)
def test_what_a_workflow_runs_is_there(program: str, words: list[str]) -> None:
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    command: Any = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        assert command, f"darkroom {' '.join(words)}"


def starts_images(path: str) -> bool:
    """Whether a push that changes a file of this path starts the workflow ``images``."""
    return any(fnmatch(path, glob) for glob in IMAGES_STARTED_BY["paths"])
