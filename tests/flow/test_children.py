"""A stack sees to its children: what can go on is started again, and what cannot is said."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from darkroom.client import Client
from darkroom.cluster_files import load_cluster
from darkroom.local import stack as local_stack
from darkroom.local.processes import ProcessFailed
from darkroom.local.stack import Options, Stack
from darkroom_contract.types import Task
from darkroom_contract.v1 import JobStatus, JobView, SubmitRequest
from tests import workflows
from tests.flow.conftest import ROOT


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of its own: what happens to it, no other test would bear."""
    with Stack(load_cluster(ROOT / "clusters" / "local"), Options(logs=tmp_path, seconds_per_step=0)) as stack:
        yield stack


def submit(client: Client, runtime: str = "webui", side: int = 64) -> JobView:
    """A job that asks for a square picture; ``side`` in pixels."""
    task, content = {
        "webui": (Task.TEXT_TO_IMAGE, {"prompt": "a cat", "width": side, "height": side, "steps": 2}),
        "comfyui": (Task.PIPELINE, workflows.text_to_image("a cat", width=side, height=side, steps=2)),
    }[runtime]
    return client.submit(SubmitRequest(id=uuid.uuid4().hex, runtime=runtime, task=task, content=content))


def end(client: Client, stack: Stack, job: JobView) -> JobStatus:
    """How a job ends, while the stack is seen to."""
    *_, last = client.follow(job, stack.check)
    return last.status


def test_an_agent_and_a_runtime_that_end_are_started_again_but_not_for_ever(stack: Stack) -> None:
    stack.check()
    health_url = stack.health_url("webui")
    stack.agents["webui"].kill()
    stack.runtimes["webui"].kill()
    with Client(stack.url, stack.api_key) as client:
        assert end(client, stack, submit(client)) is JobStatus.COMPLETED
    assert httpx.get(f"{health_url}/healthz").status_code == 200
    for _ in range(2):
        stack.agents["webui"].kill()
        stack.check()
    stack.agents["webui"].kill()
    with pytest.raises(ProcessFailed, match="agent-webui ended again and again"):
        stack.check()


@pytest.mark.parametrize(
    ("runtime", "is_restarted"),
    [pytest.param("webui", False, id="tried-out"), pytest.param("comfyui", True, id="no-trial")],
)
def test_a_runtime_that_fails_job_after_job_is_tried_out_or_restarted(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, runtime: str, is_restarted: bool
) -> None:
    monkeypatch.setattr(local_stack, "_LIVENESS_SECONDS", 0)
    first = stack.runtimes[runtime]
    with Client(stack.url, stack.api_key) as client:
        too_large = [submit(client, runtime, side=4096) for _ in range(4 - is_restarted)]
        good = submit(client, runtime)
        assert {end(client, stack, job) for job in too_large} == {JobStatus.FAILED}
        assert end(client, stack, good) is JobStatus.COMPLETED
    assert (stack.runtimes[runtime] is not first) is is_restarted


def test_a_stack_without_its_emulator_has_failed(stack: Stack) -> None:
    stack.emulator.kill()
    with pytest.raises(ProcessFailed, match="the AWS emulator ended, and its data is gone"):
        stack.check()
