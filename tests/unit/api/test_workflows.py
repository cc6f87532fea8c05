"""Prompts that name a workflow: the function fills it in, and the job is as one that was sent with the whole of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from darkroom_api.registry import _MAX_WORKFLOWS, HIT_SECONDS, MISS_SECONDS, Registry
from darkroom_api.service import service
from darkroom_contract.errors import ErrorCode
from darkroom_contract.job import Job
from darkroom_contract.names import JobFact, job_key, workflow_key
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.types import Engine, Task
from darkroom_contract.workflows import Workflow
from tests.unit.api.conftest import JOBS, Cloud, environment
from tests.unit.api.events import V1, V1ALPHA2, Answer, post, v1_body, v1alpha2_body
from tests.unit.api.test_registry import Clock
from tests.unit.contract.test_workflows import GRAPH, INPUTS, WORKFLOW

#: What every prompt of these tests gives; the seed so that jobs can be compared.
GIVEN: dict[str, JsonValue] = {"prompt": "a cat", "seed": 7}


def submit(workflow: str = "portrait", runtime: str = "flux", **fields: Any) -> Answer:
    return post(V1, {"runtime": runtime, "workflow": workflow, "inputs": GIVEN} | fields)


def put(cloud: Cloud, workflow: Workflow = WORKFLOW, name: str = "portrait", runtime: str = "flux") -> None:
    cloud.put(workflow_key(runtime, name), workflow.to_json())
    service.cache_clear()


@pytest.fixture(autouse=True)
def portrait(cloud: Cloud) -> None:
    """The workflow of the ComfyUI runtime."""
    cloud.register(RegistryEntry(name="flux", engine=Engine.COMFYUI, workflows=("landscape", "portrait")))
    put(cloud)


def published(cloud: Cloud) -> list[Job]:
    jobs = [received.message.to_job(received.message_id) for received in cloud.published()]
    return [job for job in jobs if job is not None]


def test_a_workflow_is_filled_in_and_goes_as_a_content_does(cloud: Cloud) -> None:
    answer = submit(id="mine", inputs={**GIVEN, "steps": 30})
    assert (answer.status, answer.body["task"]) == (202, "pipeline")
    [job] = published(cloud)
    assert job.task is Task.PIPELINE
    assert job.content == WORKFLOW.filled({**GIVEN, "steps": 30})
    [record] = cloud.requests()
    assert record.job == job


def test_a_seed_that_nobody_chose_is_chosen_once(cloud: Cloud) -> None:
    answers = [submit(id="mine", inputs={"prompt": "a cat"}) for _ in range(2)]
    assert [answer.status for answer in answers] == [202, 202]
    [record], [job] = cloud.requests(), published(cloud)
    content: Any = record.job.content
    assert job.content == content
    assert content["3"]["inputs"]["seed"] != GRAPH["3"]["inputs"]["seed"]


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"inputs": {}}, "inputs.prompt", "inputs.prompt is missing: it must be a text"),
        ({"inputs": {**GIVEN, "steps": 61}}, "inputs.steps", "inputs.steps must be a whole number from 1 to 60"),
        (
            {"inputs": {**GIVEN, "stepz": 1}},
            "inputs.stepz",
            "no such input; there are cfg, photo, prompt, sampler, seed, steps, tiled",
        ),
        ({"inputs": {**GIVEN, "photo": "http://10.0.0.1/a.png"}}, "inputs.photo", "https://"),
        ({"inputs": {**GIVEN, "photo": "../a.png"}}, "inputs.photo", "a file is named by its plain path"),
        ({"inputs": {**GIVEN, "photo": "data:image/png;base64,!"}}, "inputs.photo", "base64"),
        ({"inputs": []}, "inputs", "inputs must be an object"),
        ({"workflow": "Portrait"}, "workflow", "the name of one of the runtime's workflows"),
        ({"runtime": "sdxl"}, "workflow", "the runtime's engine is sdwebui, which has none: send a content"),
        ({"content": GRAPH}, "workflow", "there is a content, too: leave one of them out"),
        ({"workflow": None}, "content", "content is missing: it must be an object"),
        ({"workflow": None, "content": GRAPH}, "inputs", "they are a workflow's"),
        ({"prefix": "studio"}, "prefix", "'studio' is a tenant's own folder"),
        ({"context": "x" * 70_000}, "context", "64 KiB"),
    ],
)
def test_what_is_wrong_is_named_as_the_client_wrote_it(
    cloud: Cloud, fields: dict[str, Any], field: str, said: str
) -> None:
    answer = submit(**fields)
    assert (answer.status, answer.error["code"], answer.error["field"]) == (422, ErrorCode.INVALID_FIELD, field)
    assert said in answer.error["message"]
    assert not cloud.published()


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "s3://bucket/a.png", "data:image/png;base64,aGk=", "a.png"]
)
def test_a_picture_is_given_as_in_a_workflow_that_is_sent_whole(cloud: Cloud, url: str) -> None:
    assert submit(inputs={**GIVEN, "photo": url}).status == 202
    content: Any = published(cloud)[0].content
    assert content["1"]["inputs"]["image"] == url


@pytest.mark.parametrize(
    ("names", "said"), [(("landscape", "portrait"), "there are landscape, portrait"), ((), "it has none")]
)
def test_an_unknown_workflow_is_answered_with_those_that_there_are(
    cloud: Cloud, names: tuple[str, ...], said: str
) -> None:
    cloud.register(RegistryEntry(name="flux", engine=Engine.COMFYUI, workflows=names))
    answer = submit("upscale")
    assert (answer.status, answer.error["code"], answer.error["field"]) == (404, ErrorCode.UNKNOWN_WORKFLOW, "workflow")
    assert answer.error["message"] == f"the runtime flux has no workflow upscale; {said}"


def test_a_workflow_that_does_not_parse_is_unknown(cloud: Cloud) -> None:
    cloud.put(workflow_key("flux", "landscape"), "{}")
    assert submit("landscape").error["code"] == ErrorCode.UNKNOWN_WORKFLOW


def test_a_workflow_that_a_newer_version_wrote_is_known(cloud: Cloud) -> None:
    newer = WORKFLOW.to_json().replace('{"graph":', '{"colour":"red","graph":').replace('"type":', '"group":1,"type":')
    cloud.put(workflow_key("flux", "landscape"), newer)
    assert submit("landscape").status == 202


def test_without_a_registry_there_are_no_workflows(cloud: Cloud) -> None:
    with environment(JOBS_BUCKET=None):
        answer = submit()
    assert (answer.status, answer.error["field"]) == (422, "workflow")


def test_the_guidance_s_own_requests_know_no_workflows() -> None:
    body = v1alpha2_body()
    del body["task"]["content"]
    body["task"]["workflow"] = "portrait"
    assert post(V1ALPHA2, body).error["field"] == "task.content"


# Repeats

ANOTHER = Workflow.model_validate({"graph": GRAPH | {"11": {"class_type": "Other"}}, "inputs": INPUTS})
WITHOUT_PROMPT = Workflow.model_validate({"graph": GRAPH, "inputs": {"steps": INPUTS["steps"]}})


def change(cloud: Cloud) -> None:
    put(cloud, ANOTHER)


def take_an_input_away(cloud: Cloud) -> None:
    put(cloud, WITHOUT_PROMPT)


def take_away(cloud: Cloud) -> None:
    cloud.s3.delete_object(Bucket=JOBS, Key=workflow_key("flux", "portrait"))
    service.cache_clear()


@pytest.mark.parametrize("happens", [change, take_an_input_away, take_away])
def test_a_job_stays_the_same_whatever_becomes_of_its_workflow(cloud: Cloud, happens: Callable[[Cloud], None]) -> None:
    first = submit(id="mine")
    happens(cloud)
    again = submit(id="mine")
    assert (again.status, again.body) == (202, first.body)
    assert [job.content for job in published(cloud)] == [WORKFLOW.filled(GIVEN)]


@pytest.mark.parametrize("happens", [change, take_an_input_away, take_away])
def test_a_job_that_was_recorded_but_not_published_is_published_as_it_was(
    cloud: Cloud, happens: Callable[[Cloud], None]
) -> None:
    submit(id="mine")
    cloud.envelopes().clear()
    [record] = cloud.requests()
    cloud.s3.delete_object(Bucket=JOBS, Key=job_key("default", "mine", JobFact.PUBLISHED))
    cloud.keep(record.model_copy(update={"recorded_at": record.recorded_at - timedelta(seconds=11)}))
    happens(cloud)
    assert submit(id="mine").status == 202
    assert [job.content for job in published(cloud)] == [WORKFLOW.filled(GIVEN)]


@pytest.mark.parametrize("fields", [{"inputs": {**GIVEN, "steps": 3}}, {"workflow": "landscape"}])
def test_other_inputs_or_another_workflow_are_another_request(cloud: Cloud, fields: dict[str, Any]) -> None:
    put(cloud, name="landscape")
    assert submit(id="mine").status == 202
    assert submit(id="mine", **fields).error["code"] == ErrorCode.ID_IN_USE


def test_no_inputs_and_an_empty_object_are_the_same_request(cloud: Cloud) -> None:
    put(cloud, WITHOUT_PROMPT)
    body: dict[str, Any] = {"id": "mine", "runtime": "flux", "workflow": "portrait"}
    assert post(V1, body).status == post(V1, body | {"inputs": {}}).status == 202
    assert len(cloud.published()) == 1


def test_a_workflow_under_an_id_of_a_content_is_refused(cloud: Cloud) -> None:
    assert post(V1, v1_body(id="mine", runtime="flux", content=WORKFLOW.filled(GIVEN))).status == 202
    assert submit(id="mine").error["code"] == ErrorCode.ID_IN_USE


def test_a_wrong_input_under_the_id_of_another_job_is_a_wrong_input(cloud: Cloud) -> None:
    assert submit(id="mine").status == 202
    assert submit(id="mine", inputs={}).error["field"] == "inputs.prompt"


# What the function remembers


def test_a_workflow_is_read_once_in_a_while(cloud: Cloud) -> None:
    clock = Clock()
    registry = Registry(cloud.s3, JOBS, clock)
    assert registry.workflow("flux", "new") is None
    put(cloud, name="new")
    assert registry.workflow("flux", "new") is None
    clock.now += MISS_SECONDS
    assert registry.workflow("flux", "new") == WORKFLOW
    put(cloud, ANOTHER, name="new")
    clock.now += HIT_SECONDS - 1
    assert registry.workflow("flux", "new") == WORKFLOW
    clock.now += 1
    assert registry.workflow("flux", "new") == ANOTHER


def test_names_that_clients_make_up_do_not_fill_the_memory(cloud: Cloud) -> None:
    registry = Registry(cloud.s3, JOBS, Clock())
    for number in range(2 * _MAX_WORKFLOWS):
        registry.workflow("flux", f"made-up-{number}")
    assert len(registry._workflows._found) <= _MAX_WORKFLOWS


def test_a_large_workflow_goes_by_claim_check(cloud: Cloud) -> None:
    large = {"class_type": "Text", "inputs": {"text": "x" * 230_000}}
    put(cloud, Workflow.model_validate({"graph": GRAPH | {"11": large}, "inputs": INPUTS}))
    assert submit().status == 202
    [received] = cloud.published()
    assert received.message.content is None
    [record] = cloud.requests()
    assert record.job.content["11"] == large
