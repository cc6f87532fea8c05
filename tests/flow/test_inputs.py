"""Input pictures by URL, through the whole flow: the host is a real HTTPS server that only these tests know."""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from darkroom.local.stack import Stack
from darkroom_agent.fetcher import Fetcher
from darkroom_agent.settings import Settings
from tests.flow.conftest import INPUTS_RUNTIME
from tests.flow.flow import Flow
from tests.flow.test_guidance_clients import text_to_image
from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import RunningAgent, at_work, same_clients


@pytest.fixture
def host() -> Iterator[PicturesHost]:
    with PicturesHost() as host:
        yield host


def own_agent(stack: Stack, fetcher: Fetcher) -> AbstractContextManager[RunningAgent]:
    """An agent of this process for the runtime that the stack gives none."""
    clients = same_clients(stack.aws_client("sqs"), stack.aws_client("sns"), stack.aws_client("s3"))
    return at_work(Settings.load(stack.agent_environment(INPUTS_RUNTIME)), clients, fetcher=fetcher)


@pytest.fixture
def trusting_agent(stack: Stack, host: PicturesHost) -> Iterator[None]:
    with own_agent(stack, host.fetcher()):
        yield


@pytest.fixture
def strict_agent(stack: Stack, host: PicturesHost) -> Iterator[None]:
    """It knows the host's name, but not that its address may be fetched from."""
    with own_agent(stack, host.fetcher(loopback_is_allowed=False)):
        yield


def notification(flow: Flow, url: str) -> Any:
    """What becomes of an image-to-image job with this input."""
    label = uuid.uuid4().hex
    metadata = {"id": label, "runtime": INPUTS_RUNTIME, "tasktype": "image-to-image", "prefix": "inputs"}
    answer = flow.post(
        "v1alpha2", {"task": {"metadata": metadata, "content": {**text_to_image(), "init_images": [url]}}}
    )
    assert answer.status_code == 200, answer.text
    return flow.notifications(1, lambda it: it["id"] == label)[0]


@pytest.mark.usefixtures("trusting_agent")
def test_a_v1alpha1_image_link_is_fetched(flow: Flow, host: PicturesHost) -> None:
    label = uuid.uuid4().hex
    routing = {
        "task": "image-to-image",
        "sd_model_checkpoint": f"{INPUTS_RUNTIME}.safetensors",
        "id_task": label,
        "save_dir": "inputs",
        "image_link": host.url("/a.png"),
    }
    body = {**text_to_image(), "prompt": host.url("/prompt.png"), "alwayson_scripts": routing}
    assert flow.post("v1alpha1", body).status_code == 200
    (answer,) = flow.notifications(1, lambda it: it["id"] == label)
    assert answer["result"] is True, answer
    assert host.requests == ["/a.png"]


@pytest.mark.usefixtures("trusting_agent")
@pytest.mark.parametrize("target", ["https://169.254.169.254/latest/meta-data/", "http://pictures.test/a.png"])
def test_an_input_that_redirects_to_where_it_may_not_is_refused(flow: Flow, host: PicturesHost, target: str) -> None:
    answer = notification(flow, host.redirects("/moved.png", target))
    assert (answer["status"], answer["error"]["code"]) == ("failed", "input_refused")
    assert answer["error"]["field"] == "content.init_images[0]"


@pytest.mark.usefixtures("trusting_agent")
def test_an_input_that_is_no_picture_is_refused(flow: Flow, host: PicturesHost) -> None:
    answer = notification(flow, host.serves("/page.png", b"<html>"))
    assert (answer["status"], answer["error"]["code"]) == ("failed", "input_refused")


@pytest.mark.usefixtures("strict_agent")
def test_an_input_on_a_name_that_resolves_to_loopback_is_refused(flow: Flow, host: PicturesHost) -> None:
    answer = notification(flow, host.url("/a.png"))
    assert (answer["status"], answer["error"]["code"]) == ("failed", "input_refused")
