"""``darkroom smoke`` and ``doctor`` at a local stack: one prompt to each runtime, and what happened when."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from darkroom import smoke
from darkroom.client import Client
from darkroom.cluster_files import ClusterFiles
from darkroom.commands.doctor import _chosen
from darkroom.local.stack import Stack
from darkroom.trouble import UsageError
from darkroom_contract.names import Bucket
from darkroom_contract.runtime import Runtime
from darkroom_contract.store import JobStore
from darkroom_contract.types import Engine
from darkroom_contract.workflows import Workflow
from tests.flow.conftest import INPUTS_RUNTIME
from tests.flow.flow import PATIENCE_SECONDS
from tests.flow.test_command import LOCAL_CLUSTER, darkroom, local

STEPS = ["accepted", "published", "received", "started", "generated", "saved"]


def drawn(stack: Stack, files: ClusterFiles, *runtimes: str, seconds: float = PATIENCE_SECONDS) -> list[smoke.Outcome]:
    store = JobStore(stack.aws_client("s3"), stack.bucket(Bucket.JOBS))
    witnesses = smoke.Witnesses(store, tuple(stack.api_keys))
    with Client(stack.url, stack.api_keys["studio"]) as client:
        return list(smoke.run(client, files, runtimes, witnesses, seconds=dict.fromkeys(runtimes, seconds)))


def test_each_runtime_draws_and_its_steps_are_told_in_order(stack: Stack, files: ClusterFiles) -> None:
    outcomes = drawn(stack, files, "webui", "comfyui")
    assert [(outcome.runtime, outcome.failure, outcome.skipped) for outcome in outcomes] == [
        ("webui", None, None),
        ("comfyui", None, None),
    ]
    for outcome in outcomes:
        assert sorted(step.name for step in outcome.steps) == sorted(STEPS)
        seconds = [step.seconds for step in outcome.steps]
        assert seconds == sorted(seconds)
        assert outcome.seconds == seconds[-1] > 0
        [picture] = outcome.pictures
        assert picture.startswith(f"s3://{stack.bucket(Bucket.OUTPUTS)}/studio/smoke/{outcome.job_id}/")


def test_a_checkpoint_is_enough_for_comfyui(stack: Stack, files: ClusterFiles) -> None:
    named = files.runtimes["comfyui"].model_copy(update={"checkpoint": "v1-5-pruned-emaonly.safetensors"})
    without = replace(files, runtimes={**files.runtimes, "comfyui": named}, workflows={})
    [outcome] = drawn(stack, without, "comfyui")
    assert (outcome.failure, len(outcome.pictures)) == (None, 1)


def test_a_runtime_that_nothing_is_known_of_is_skipped(stack: Stack, files: ClusterFiles) -> None:
    [outcome] = drawn(stack, replace(files, workflows={}), "comfyui")
    assert outcome.job_id is None
    assert outcome.skipped == ("it has no workflow and names no checkpoint: put one into runtimes/comfyui/workflows/")


def test_a_picture_that_does_not_come_in_time_is_a_failure_with_the_steps_so_far(
    stack: Stack, files: ClusterFiles
) -> None:
    [outcome] = drawn(stack, files, INPUTS_RUNTIME, seconds=1)  # it has no agent
    assert outcome.failure == "no picture within 1 s: the job is accepted"
    assert {step.name for step in outcome.steps} == {"accepted", "published"}
    assert outcome.seconds is None


def test_a_runtime_that_takes_no_prompts_fails_by_the_apis_words(stack: Stack, files: ClusterFiles) -> None:
    [outcome] = drawn(stack, files, "closed")
    assert outcome.failure
    assert outcome.failure.startswith("the API: ")


def test_every_kind_of_input_gets_a_value_that_its_workflow_takes(files: ClusterFiles) -> None:
    placed = {"image": "a.png", "text": "", "n": 1, "x": 0.1, "b": True, "e": "euler", "seed": 0}
    graph = {"1": {"class_type": "LoadImage", "inputs": placed}}
    inputs = {
        "picture": {"node": "1", "field": "image", "type": "image"},
        "words": {"node": "1", "field": "text", "type": "string"},
        "count": {"node": "1", "field": "n", "type": "integer", "minimum": 3},
        "share": {"node": "1", "field": "x", "type": "number", "maximum": 0.5},
        "hires": {"node": "1", "field": "b", "type": "boolean"},
        "sampler": {"node": "1", "field": "e", "type": "string", "enum": ["euler"]},
        "seed": {"node": "1", "field": "seed", "type": "integer"},
    }
    workflow = Workflow.model_validate({"graph": graph, "inputs": inputs})
    request = smoke.request_for("comfyui", Runtime(engine=Engine.COMFYUI), {"portrait": workflow})
    assert request.workflow == "portrait"
    assert request.inputs.pop("picture").startswith("data:image/png;base64,")  # type: ignore[union-attr]
    assert isinstance(request.inputs.pop("words"), str)
    assert request.inputs == {"count": 3, "share": 0.5, "hires": False, "sampler": "euler"}


@pytest.mark.parametrize(
    ("scaling", "is_local", "seconds"), [({}, False, 1020), ({}, True, 120), ({"minPods": 1}, False, 120)]
)
def test_a_cold_start_is_waited_for_where_there_may_be_one(
    scaling: dict[str, int], is_local: bool, seconds: int
) -> None:
    runtime = Runtime.model_validate({"engine": "comfyui", "scaling": scaling})
    assert smoke.budget(runtime, is_local=is_local) == seconds


def test_a_runtime_that_is_not_there_is_refused(files: ClusterFiles) -> None:
    with pytest.raises(UsageError, match="the cluster has no runtime nowhere; there are"):
        _chosen(files, ["nowhere"])


def test_the_commands_try_the_local_stack_that_runs(tmp_path: Path) -> None:
    with local(tmp_path, LOCAL_CLUSTER):
        well = darkroom(tmp_path, "doctor", "--cluster", str(LOCAL_CLUSTER))
        assert well.returncode == 0, well.stdout + well.stderr
        assert "Nothing is wrong." in well.stdout
        assert "a local stack has no Kubernetes" in well.stdout
        run = darkroom(tmp_path, "smoke", "--cluster", str(LOCAL_CLUSTER))
        assert run.returncode == 0, run.stdout + run.stderr
        assert "2 of 2 runtimes drew a picture" in run.stdout
        told = json.loads(darkroom(tmp_path, "smoke", "--json", "--cluster", str(LOCAL_CLUSTER)).stdout)
        assert {outcome["runtime"]: outcome["failure"] for outcome in told} == {"comfyui": None, "webui": None}
        job = darkroom(tmp_path, "doctor", "--cluster", str(LOCAL_CLUSTER), "--job", told[0]["job_id"])
        assert (job.returncode, "✓ pictures" in job.stdout) == (0, True), job.stdout + job.stderr
