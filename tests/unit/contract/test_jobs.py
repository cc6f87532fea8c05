"""Requests of every version become one form of job, and survive their way through the queue."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_contract import v1, v1alpha1, v1alpha2
from darkroom_contract.job import MAX_CONTEXT_BYTES, Api, FieldError, Job
from darkroom_contract.message import MAX_INLINE_BYTES, ClaimedReference, Message, NotAMessage, receive
from darkroom_contract.types import Engine, OutputFormat, PictureFormat, Task
from tests.unit.contract.test_types import json_values

CHECKPOINT = "v1-5-pruned-emaonly.safetensors"


def v1alpha1_body(task: str = "image-to-image") -> dict[str, Any]:
    return {
        "prompt": "a dog",
        "override_settings": {"a": 1, "b": 1},
        "alwayson_scripts": {
            "task": task,
            "sd_model_checkpoint": CHECKPOINT,
            "id_task": "9_1",
            "uid": "456",
            "save_dir": "outputs",
            "image_link": "https://example.com/dog.png",
            "sd_vae": "None",
            "override_settings": {"b": 2},
            "controlnet": {"args": [None]},
        },
    }


def v1_job(**fields: Any) -> Job:
    return v1.SubmitRequest.model_validate({"runtime": "sdxl", "content": {"prompt": "a"}, **fields}).to_job(
        tenant="default"
    )


def test_a_v1alpha1_request_becomes_the_web_uis_own_body() -> None:
    job = v1alpha1.Request.model_validate(v1alpha1_body()).to_job(tenant="default", job_id="j")
    assert job.content == {
        "prompt": "a dog",
        "override_settings": {"a": 1, "b": 2},
        "init_images": ["https://example.com/dog.png"],
        "alwayson_scripts": {"controlnet": {"args": [None]}},
    }
    assert (job.label, job.folder, job.checkpoint) == ("9_1", "outputs/9_1", CHECKPOINT)
    assert job.route == ("sd_model_checkpoint", CHECKPOINT)


def test_an_image_link_means_nothing_to_text_to_image() -> None:
    job = v1alpha1.Request.model_validate(v1alpha1_body("text-to-image")).to_job(tenant="default", job_id="j")
    assert "init_images" not in job.content


def test_taking_the_routing_data_out_twice_changes_nothing_more() -> None:
    once, _ = v1alpha1.split_routing(Task.IMAGE_TO_IMAGE, v1alpha1_body())
    assert v1alpha1.split_routing(Task.IMAGE_TO_IMAGE, once) == (once, None)


def test_a_v1alpha2_request_is_routed_by_its_runtime() -> None:
    metadata = {"id": "a", "runtime": "sdxl", "tasktype": "text-to-image", "prefix": "p/", "context": [1], "extra": 1}
    body = {"task": {"metadata": metadata, "content": {"prompt": "a"}}}
    job = v1alpha2.Request.model_validate(body).to_job(tenant="studio", job_id="j")
    assert (job.route, job.folder, job.context) == (("runtime", "sdxl"), "studio/p/a", [1])


def test_a_v1alpha2_request_may_say_its_wishes_in_the_metadata() -> None:
    wishes = {"output": {"format": "avif"}, "notify_running": True}
    metadata = {"id": "a", "runtime": "sdxl", "tasktype": "text-to-image", "prefix": "p", **wishes}
    job = v1alpha2.Request.model_validate({"task": {"metadata": metadata, "content": {}}}).to_job(
        tenant="studio", job_id="j"
    )
    assert (job.output, job.notify_running) == (OutputFormat(format=PictureFormat.AVIF), True)


def test_the_meaning_of_a_v1_request_has_one_fingerprint() -> None:
    one = v1.SubmitRequest.model_validate_json('{"runtime": "a", "content": {"x": 1, "y": [2.5]}}')
    same = v1.SubmitRequest.model_validate_json('{"content":{"y":[2.5],"x":1},"runtime":"a","task":"text-to-image"}')
    other = v1.SubmitRequest.model_validate_json('{"runtime": "a", "content": {"x": 1, "y": [2.6]}}')
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def test_a_request_without_wishes_has_the_fingerprint_that_it_always_had() -> None:
    """A client may send a request again after the API was upgraded."""
    body = {"id": "mine", "runtime": "sdxl", "prefix": "a", "context": [1], "content": {"prompt": "ü", "seed": 1}}
    recorded = "da6552c597b0f81b647a47cb58c8ff3f947e56fa04f482cabea303bef1a3bf90"
    assert v1.SubmitRequest.model_validate(body).fingerprint() == recorded
    others = ({"output": {"format": "png"}}, {"output": {"format": "jpeg"}}, {"notify_running": True})
    assert len({v1.SubmitRequest.model_validate(body | other).fingerprint() for other in others} | {recorded}) == 4


output_formats = st.builds(OutputFormat, format=st.just(PictureFormat.PNG)) | st.builds(
    OutputFormat,
    format=st.sampled_from([PictureFormat.JPEG, PictureFormat.WEBP, PictureFormat.AVIF]),
    quality=st.none() | st.integers(1, 100),
)


@given(
    content=st.dictionaries(st.text(), json_values, max_size=4),
    context=json_values,
    output=st.none() | output_formats,
    notify_running=st.booleans(),
)
def test_a_job_survives_its_way_through_the_queue(
    content: dict[str, Any], context: Any, output: OutputFormat | None, notify_running: bool
) -> None:
    job = v1_job(content=content, context=context, output=output, notify_running=notify_running)
    text = Message.of(job, "nonce").to_body()
    enveloped = json.dumps({"Type": "Notification", "MessageId": "sns", "Message": text})
    for body in (text, enveloped):
        assert receive(body, "sqs").message.to_job("unused") == job


def test_a_job_that_was_recorded_before_there_were_wishes_has_none() -> None:
    job = v1_job()
    recorded = json.loads(job.to_json())
    assert not {"output", "notify_running"} & set(recorded)
    assert Job.model_validate(recorded) == job
    assert (job.output, job.notify_running) == (None, False)


def test_a_job_that_was_recorded_with_wishes_has_them() -> None:
    recorded = json.loads(v1_job().to_json()) | {"output": {"format": "webp", "quality": 80}, "notify_running": True}
    job = Job.model_validate_json(json.dumps(recorded))
    assert (job.output, job.notify_running) == (OutputFormat(format=PictureFormat.WEBP, quality=80), True)


def test_the_message_of_a_job_without_wishes_is_as_it_always_was() -> None:
    metadata = json.loads(Message.of(v1_job(id="j"), "nonce").to_body())["metadata"]
    assert set(metadata) == {"id", "runtime", "tasktype", "context", "darkroom"}
    assert set(metadata["darkroom"]) == {"api", "job_id", "tenant", "nonce", "submitted_at"}


def test_a_large_content_stays_behind_and_the_message_says_whose_it_is() -> None:
    job = v1_job(content={"prompt": "ü" * MAX_INLINE_BYTES})
    text = Message.of(job, "nonce").to_body()
    message = receive(text, "sqs").message
    assert len(text.encode()) < 1024
    assert message.to_job("sqs") is None
    assert message.metadata.darkroom is not None
    assert message.metadata.darkroom.job_id == job.job_id


def test_a_clients_own_message_is_a_job_under_the_id_that_sns_gave_it() -> None:
    body = {"metadata": {"id": "x" * 70, "runtime": "r", "tasktype": "extra-batch-image"}, "content": {"imageList": []}}
    envelope = {"Type": "Notification", "MessageId": "0f5e", "Message": json.dumps(body)}
    received = receive(json.dumps(envelope), "sqs")
    job = received.message.to_job(received.message_id)
    assert job is not None
    assert (job.api, job.job_id, job.label, job.task) == (Api.DIRECT, "0f5e", "x" * 64, Task.EXTRA_BATCH_IMAGES)


def direct(content: dict[str, Any], **metadata: Any) -> Job:
    """The job of a message that a client published itself."""
    body = {"metadata": {"id": "a", **metadata}, "content": content}
    job = receive(json.dumps(body), "sqs").message.to_job("sqs")
    assert job is not None
    return job


def test_a_client_may_count_its_jobs_by_numbers() -> None:
    assert direct({}, id=42, tasktype="text-to-image").label == "42"


@pytest.mark.parametrize("metadata", [{}, {"tasktype": None}, {"tasktype": "text-to-music"}, {"tasktype": [1]}])
def test_a_task_of_another_name_is_a_pipeline_which_only_comfyui_runs(metadata: dict[str, Any]) -> None:
    graph = {"1": {"class_type": "SaveImage", "inputs": {}}}
    job = direct(graph, **metadata)
    assert job.for_engine(Engine.COMFYUI).task is Task.PIPELINE
    with pytest.raises(FieldError, match="text-to-image, image-to-image, extra-single-image, extra-batch-images"):
        job.for_engine(Engine.SDWEBUI)


@pytest.mark.parametrize(
    "change",
    [
        {"prefix": "../.."},
        {"darkroom": {"api": "v9", "job_id": "j", "tenant": "studio", "nonce": "nonce"}},
        {"runtime": {"name": "a"}},
    ],
)
def test_a_message_of_the_api_that_does_not_parse_still_says_whose_job_it_is(change: dict[str, Any]) -> None:
    body = json.loads(Message.of(v1_job(id="j", context=[1]), "nonce").to_body())
    body["metadata"]["darkroom"]["tenant"] = "studio"
    body["metadata"] |= change
    with pytest.raises(NotAMessage) as refusal:
        receive(json.dumps(body), "sqs")
    assert refusal.value.reference == ClaimedReference(
        tenant="studio", job_id="j", label="j", context=[1], nonce="nonce"
    )


def test_a_job_of_the_api_under_a_label_outside_the_grammar_is_nobodys() -> None:
    body = json.loads(Message.of(v1_job(id="j"), "nonce").to_body())
    body["metadata"]["id"] = "../j"
    with pytest.raises(NotAMessage) as refusal:
        receive(json.dumps(body), "sqs").message.to_job("sqs")
    assert refusal.value.reference is None


def test_a_claim_check_says_whose_job_it_is() -> None:
    message = receive(Message.of(v1_job(id="j", content={"a": "b" * MAX_INLINE_BYTES}), "nonce").to_body(), "m").message
    assert message.reference == ClaimedReference(tenant="default", job_id="j", label="j", nonce="nonce")


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"metadata": {"id": "a"}}', '{"metadata": {"id": "a/b"}, "content": {}}', '{"a": NaN}', "\x00"],
)
def test_what_is_no_job_is_poison_with_a_reason(body: str) -> None:
    with pytest.raises(NotAMessage, match=r"\w"):
        receive(body, "sqs").message.to_job("sqs")


@pytest.mark.parametrize("body", ["", "{}", '{"metadata": {"id": "a/b"}, "content": {}}', '{"metadata": []}'])
def test_poison_of_a_clients_own_is_no_known_job(body: str) -> None:
    with pytest.raises(NotAMessage) as refusal:
        receive(body, "sqs").message.to_job("sqs")
    assert refusal.value.reference is None


def test_a_missing_seed_is_pinned_and_one_that_is_there_is_kept() -> None:
    assert v1_job(content={"seed": 5}).with_pinned_seed().content["seed"] == 5
    contents: list[dict[str, Any]] = [{}, {"seed": -1}, {"seed": None}]
    for content in contents:
        seed = v1_job(content=content).with_pinned_seed().content["seed"]
        assert isinstance(seed, int)
        assert 0 <= seed < 2**32


@pytest.mark.parametrize(
    ("content", "pinned"),
    [
        ({"seed": 5, "subseed_strength": 0.3}, True),
        ({"seed": 5, "subseed_strength": 1, "subseed": -1}, True),
        ({"seed": 5, "subseed_strength": 0.3, "subseed": 7}, False),
        ({"seed": 5, "subseed_strength": 0, "subseed": -1}, False),
        ({"seed": 5, "subseed_strength": "0.3"}, False),
        ({"seed": 5}, False),
    ],
)
def test_the_seed_of_variations_is_pinned_where_it_counts(content: dict[str, Any], pinned: bool) -> None:
    job = v1_job(content=content).with_pinned_seed()
    assert job.content["seed"] == 5
    if pinned:
        assert job.content["subseed"] not in (-1, None)
    else:
        assert job.content == content


def test_a_workflow_gets_no_seed() -> None:
    graph = {"1": {"class_type": "SaveImage", "inputs": {}}}
    assert v1_job(content=graph, task="text-to-image").with_pinned_seed().content == graph


def test_comfyui_takes_a_workflow_whatever_its_task_is_called() -> None:
    graph = {"1": {"class_type": "SaveImage", "inputs": {}}}
    assert v1_job(content=graph).for_engine(Engine.COMFYUI).task is Task.PIPELINE
    no_workflows: list[dict[str, Any]] = [{"prompt": "a"}, {}, {"nodes": [], "links": []}]
    for content in no_workflows:
        with pytest.raises(FieldError, match="workflow"):
            v1_job(content=content).for_engine(Engine.COMFYUI)


def test_the_web_ui_takes_no_workflow() -> None:
    with pytest.raises(FieldError, match="sdwebui"):
        v1_job(task="pipeline").for_engine(Engine.SDWEBUI)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prefix": "studio/x"}, "prefix"),
        ({"id": "studio"}, "prefix"),
        ({"task": "image-to-image", "content": {"init_images": ["http://a/b"]}}, "body.init_images[0]"),
        ({"content": {"mask": "/etc/passwd"}}, "body.mask"),
        ({"content": {"init_images": ["aGk="] * 17}}, "body.init_images[16]"),
        (
            {"task": "pipeline", "content": {"3": {"class_type": "LoadImage", "inputs": {"image": "a [output]"}}}},
            "body.3.inputs.image",
        ),
        ({"context": "c" * (MAX_CONTEXT_BYTES - 1)}, "context"),
        ({"context": "é" * (MAX_CONTEXT_BYTES // 6 + 1)}, "context"),
    ],
)
def test_what_no_agent_could_do_is_refused_with_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as refusal:
        v1_job(**fields).check(["default", "studio"], content_field="body")
    assert refusal.value.field == field


def test_the_largest_context_is_taken() -> None:
    v1_job(context="c" * (MAX_CONTEXT_BYTES - 2)).check(["default"])
