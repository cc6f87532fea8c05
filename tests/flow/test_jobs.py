"""Jobs of Darkroom's own API: each is run once, by the runtime it was sent to, and none is lost."""

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from darkroom.client import Client
from darkroom.local.gateway import Gateway
from darkroom.local.stack import Stack
from darkroom_contract.names import Bucket, JobFact, job_key
from darkroom_contract.types import Task
from darkroom_contract.v1 import JobStatus, SubmitRequest
from tests.flow.flow import Flow
from tests.flow.test_guidance_clients import text_to_image, workflow
from tests.flow.valve import Valve


def submission(runtime: str, job_id: str | None = None, **content: Any) -> dict[str, Any]:
    task, body = ("pipeline", workflow("a harbour")) if runtime == "comfyui" else ("text-to-image", text_to_image())
    return {"id": job_id or uuid.uuid4().hex, "runtime": runtime, "task": task, "content": {**body, **content}}


def test_two_hundred_prompts_at_once_give_two_hundred_pictures_and_none_twice(flow: Flow) -> None:
    requests = [submission(("webui", "comfyui")[number % 2]) for number in range(200)]
    for number, request in enumerate(requests):
        content = request["content"]
        (content["3"]["inputs"] if request["runtime"] == "comfyui" else content)["seed"] = number
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda request: flow.post("v1/jobs", request), requests))
    assert Counter(answer.status_code for answer in answers) == {202: 200}
    sent = {request["id"]: request["runtime"] for request in requests}
    notifications = flow.notifications(200, lambda it: it["id"] in sent)
    assert Counter(it["id"] for it in notifications) == dict.fromkeys(sent, 1)
    assert {it["id"]: it["runtime"] for it in notifications} == sent
    assert all(it["result"] and len(it["image_url"]) == 1 for it in notifications)
    pictures = [flow.picture(url) for it in notifications for url in it["image_url"]]
    assert len({picture.tobytes() for picture in pictures}) == 200
    assert not flow.has_further_notification(lambda it: it["id"] in sent)


def test_a_job_tells_where_it_stands_and_where_its_pictures_are(flow: Flow, stack: Stack) -> None:
    with Client(stack.url, stack.api_keys["studio"]) as client:
        request = SubmitRequest(id=uuid.uuid4().hex, runtime="webui", prefix="a/b", content=text_to_image())
        views = list(client.follow(client.submit(request)))
        assert views[0].status is JobStatus.ACCEPTED
        last = views[-1]
        assert last.status is JobStatus.COMPLETED
        (image,) = last.images
        assert image.location.startswith(f"s3://{stack.bucket(Bucket.OUTPUTS)}/studio/a/b/{request.id}/")
        assert client.download(image).startswith(b"\x89PNG")
    assert flow.get(f"v1/jobs/{request.id}", tenant="default").status_code == 404


def test_a_body_of_300_kilobytes_goes_through_by_claim_check(flow: Flow) -> None:
    request = submission("webui", styles=["x" * 300_000])
    assert flow.post("v1/jobs", request).status_code == 202
    (notification,) = flow.notifications(1, lambda it: it["id"] == request["id"])
    assert notification["result"] is True


def test_fifty_clients_that_submit_the_same_job_at_once_make_one_job(flow: Flow, stack: Stack) -> None:
    request = SubmitRequest(id=uuid.uuid4().hex, runtime="webui", task=Task.TEXT_TO_IMAGE, content=text_to_image())

    def submit(_number: int) -> JobStatus:
        with Client(stack.url, stack.api_keys["default"]) as client:
            return client.submit(request).status

    with ThreadPoolExecutor(50) as clients:
        assert set(clients.map(submit, range(50))) <= {JobStatus.ACCEPTED, JobStatus.RUNNING, JobStatus.COMPLETED}
    (notification,) = flow.notifications(1, lambda it: it["id"] == request.id)
    assert notification["result"] is True
    assert not flow.has_further_notification(lambda it: it["id"] == request.id)
    assert len(flow.keys(Bucket.OUTPUTS, f"{request.id}/")) == 2  # one picture and one response


def test_an_id_that_stands_for_another_job_is_refused(flow: Flow) -> None:
    request = submission("webui")
    assert flow.post("v1/jobs", request).status_code == 202
    answer = flow.post("v1/jobs", {**request, "content": {**text_to_image(), "prompt": "another"}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "id_in_use")
    # Another tenant's ids are its own.
    assert flow.post("v1/jobs", request, tenant="studio").status_code == 202
    assert {it["tenant"] for it in flow.notifications(2, lambda it: it["id"] == request["id"])} == {"default", "studio"}


@pytest.fixture
def interrupted(stack: Stack) -> Iterator[tuple[Gateway, Valve]]:
    """An API whose calls to SNS go through a valve, which is shut."""
    with Valve(stack.aws_environment["AWS_ENDPOINT_URL"]) as valve:
        variables = {"AWS_ENDPOINT_URL_SNS": valve.url, "TIMEOUT_SECONDS": "3"}
        gateway = stack.serve_api(variables)
        yield gateway, valve
        gateway.function.stop()
        gateway.stop()


def test_a_job_whose_lambda_was_killed_before_it_published_runs_when_the_client_submits_it_again(
    flow: Flow, stack: Stack, interrupted: tuple[Gateway, Valve]
) -> None:
    gateway, valve = interrupted
    request = SubmitRequest(id=uuid.uuid4().hex, runtime="webui", task=Task.TEXT_TO_IMAGE, content=text_to_image())
    with ThreadPoolExecutor(1) as background, Client(gateway.url, stack.api_keys["default"]) as client:
        submitted = background.submit(client.submit, request)
        valve.wait_for_caller()
        assert flow.keys(Bucket.JOBS, job_key("default", str(request.id), JobFact.REQUEST))
        for environment in gateway.function.environments:
            environment.kill()
        valve.open()
        # The client was answered 502, and goes on sending the same request, as its id allows.
        assert submitted.result().status is not JobStatus.FAILED
    (notification,) = flow.notifications(1, lambda it: it["id"] == request.id)
    assert notification["result"] is True
    assert not flow.has_further_notification(lambda it: it["id"] == request.id)
