"""Named workflows, from the pushed file to the picture."""

import json
import uuid
from typing import Any

import pytest

from darkroom.local.stack import Stack
from darkroom_contract.names import Bucket
from tests.flow.flow import Flow


def request(**inputs: Any) -> dict[str, Any]:
    given = {"prompt": "a harbour", "steps": 2, **inputs}
    return {"id": uuid.uuid4().hex, "runtime": "comfyui", "workflow": "landscape", "inputs": given}


def test_a_workflow_and_its_inputs_become_a_picture(flow: Flow, stack: Stack) -> None:
    job = request(seed=7)
    answer = flow.post("v1/jobs", job)
    assert (answer.status_code, answer.json()["task"]) == (202, "pipeline")
    (notification,) = flow.notifications(1, lambda it: it["id"] == job["id"])
    assert notification["result"] is True
    (url,) = notification["image_url"]
    picture: Any = flow.picture(url)
    described = stack.files.workflows["comfyui"]["landscape"]
    size: Any = described.graph["5"]
    assert picture.size == (size["inputs"]["width"], size["inputs"]["height"])
    # ComfyUI puts the graph that it ran into its pictures.
    assert json.loads(picture.text["prompt"]) == described.filled(job["inputs"])
    assert flow.post("v1/jobs", job).json()["status"] == "completed"


def test_every_prompt_without_a_seed_has_one_of_its_own(flow: Flow) -> None:
    jobs = [request() for _ in range(2)]
    for job in jobs:
        assert flow.post("v1/jobs", job).status_code == 202
    ids = {job["id"] for job in jobs}
    urls = [url for it in flow.notifications(2, lambda it: it["id"] in ids) for url in it["image_url"]]
    assert len({flow.picture(url).tobytes() for url in urls}) == 2


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"workflow": "portrait"}, 404, "unknown_workflow", "workflow"),
        ({"runtime": "webui"}, 422, "invalid_field", "workflow"),
        ({"inputs": {}}, 422, "invalid_field", "inputs.prompt"),
        ({"inputs": {"prompt": "a", "sampler": "none"}}, 422, "invalid_field", "inputs.sampler"),
        ({"content": {}}, 422, "invalid_field", "workflow"),
    ],
)
def test_what_no_workflow_takes_is_refused_at_once(
    flow: Flow, change: dict[str, Any], status: int, code: str, field: str
) -> None:
    job = request() | change
    answer = flow.post("v1/jobs", job)
    assert answer.status_code == status
    assert (answer.json()["error"]["code"], answer.json()["error"]["field"]) == (code, field)
    assert not flow.keys(Bucket.JOBS, f"jobs/default/{job['id']}/")
