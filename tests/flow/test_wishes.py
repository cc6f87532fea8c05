"""What a request may wish for: a format, to be told of the beginning, and an end before the picture."""

import uuid
from typing import Any

import pytest

from darkroom.local.stack import Stack
from darkroom_contract.names import Bucket
from tests.flow.conftest import INPUTS_RUNTIME
from tests.flow.flow import Flow
from tests.flow.test_inputs import own_agent
from tests.flow.test_jobs import submission
from tests.unit.agent.pictures_host import PicturesHost

LARGE = {"styles": ["x" * 300_000]}  # goes by claim check


@pytest.mark.parametrize(("runtime", "content"), [("webui", {}), ("webui", LARGE), ("comfyui", {})])
def test_pictures_come_in_the_format_that_is_asked_for(flow: Flow, runtime: str, content: dict[str, Any]) -> None:
    request = {**submission(runtime, **content), "output": {"format": "webp", "quality": 60}}
    assert flow.post("v1/jobs", request).status_code == 202
    (notification,) = flow.notifications(1, lambda it: it["id"] == request["id"])
    (url,) = notification["image_url"]
    assert url.endswith(".webp")
    assert flow.picture(url).format == "WEBP"


def test_a_guidance_client_may_ask_for_a_format_too(flow: Flow) -> None:
    label = uuid.uuid4().hex
    metadata = {
        "id": label,
        "runtime": "webui",
        "tasktype": "text-to-image",
        "prefix": "a",
        "output": {"format": "jpeg"},
    }
    answer = flow.post("v1alpha2", {"task": {"metadata": metadata, "content": submission("webui")["content"]}})
    assert answer.status_code == 200
    (notification,) = flow.notifications(1, lambda it: it["id"] == label)
    (url,) = notification["image_url"]
    assert flow.picture(url).format == "JPEG"


def test_who_asks_for_it_is_told_of_the_beginning(flow: Flow) -> None:
    quiet, told = submission("webui"), {**submission("webui"), "notify_running": True}
    for request in (quiet, told):
        assert flow.post("v1/jobs", request).status_code == 202
    notifications = flow.notifications(3, lambda it: it["id"] in (quiet["id"], told["id"]))
    statuses = {it: [each["status"] for each in notifications if each["id"] == it] for it in (quiet["id"], told["id"])}
    assert statuses[quiet["id"]] == ["completed"]
    assert sorted(statuses[told["id"]]) == ["completed", "running"]


def test_a_notification_says_how_long_it_took(flow: Flow) -> None:
    request = submission("webui")
    assert flow.post("v1/jobs", request).status_code == 202
    (notification,) = flow.notifications(1, lambda it: it["id"] == request["id"])
    seconds = notification["seconds"]
    assert set(seconds) == {"wait", "fetch", "generate", "upload", "total"}
    assert 0 <= seconds["generate"] <= seconds["total"]
    assert flow.get(f"v1/jobs/{request['id']}").json()["seconds"] == seconds


def test_a_job_that_is_cancelled_before_it_begins_is_told_as_cancelled_and_leaves_nothing(
    flow: Flow, stack: Stack
) -> None:
    request = submission(INPUTS_RUNTIME)
    assert flow.post("v1/jobs", request).status_code == 202
    answers: list[Any] = [flow.post(f"v1/jobs/{request['id']}/cancel", "") for _ in range(2)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(202, "cancelled")] * 2
    assert flow.post(f"v1/jobs/{request['id']}/cancel", "", tenant="studio").status_code == 404
    with PicturesHost() as host, own_agent(stack, host.fetcher()):
        (notification,) = flow.notifications(1, lambda it: it["id"] == request["id"])
    assert (notification["result"], notification["status"]) == (False, "cancelled")
    assert "error" not in notification
    assert not [key for key in flow.keys(Bucket.OUTPUTS, f"{request['id']}/") if not key.endswith(".out")]
    ended = flow.post(f"v1/jobs/{request['id']}/cancel", "")
    assert (ended.status_code, ended.json()["status"]) == (200, "cancelled")
