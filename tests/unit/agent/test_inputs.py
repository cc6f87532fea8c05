"""Where a tenant's input pictures may come from, and which fields of a content they are in."""

import base64
from typing import Any

import pytest

from darkroom_agent.errors import HandedBackError, InputMissingError, InputRefusedError
from darkroom_agent.fetcher import MAX_BYTES
from darkroom_agent.inputs import Inputs
from darkroom_contract.job import Api, Job
from darkroom_contract.types import Task, utcnow
from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import Cloud, picture, seconds_for


@pytest.fixture
def inputs(cloud: Cloud, host: PicturesHost) -> Inputs:
    settings = cloud.settings(engine="sdwebui", runtime_url="http://127.0.0.1:1", tenants=("default", "acme", "other"))
    return Inputs(host.fetcher(), cloud.s3, settings)


def job(content: dict[str, Any], task: Task = Task.EXTRA_SINGLE_IMAGE, tenant: str = "default") -> Job:
    return Job(
        api=Api.V1,
        job_id="job",
        tenant=tenant,
        label="job",
        runtime="sdxl",
        task=task,
        content=content,
        submitted_at=utcnow(),
    )


def attached(inputs: Inputs, job: Job) -> Any:
    return inputs.attach(job, lambda data: base64.b64encode(data).decode()).content


@pytest.mark.parametrize(
    ("tenant", "bucket", "key"),
    [
        ("default", "inputs", "any/where.png"),
        ("acme", "inputs", "any/where.png"),
        ("default", "outputs", "team/a.png"),
        ("default", "outputs", "a.png"),
        ("acme", "outputs", "acme/team/a.png"),
    ],
)
def test_a_tenant_reads_the_input_buckets_and_its_own_outputs(
    cloud: Cloud, inputs: Inputs, tenant: str, bucket: str, key: str
) -> None:
    name = getattr(cloud, bucket)
    cloud.s3.put_object(Bucket=name, Key=key, Body=picture())
    content = attached(inputs, job({"image": f"s3://{name}/{key}"}, tenant=tenant))
    assert base64.b64decode(content["image"]) == picture()


@pytest.mark.parametrize(
    ("tenant", "bucket", "key"),
    [
        ("default", "outputs", "acme/a.png"),
        ("acme", "outputs", "other/a.png"),
        ("acme", "outputs", "team/a.png"),
        ("acme", "outputs", "acmeother/a.png"),
        ("default", "jobs", "jobs/default/a/request.json"),
    ],
)
def test_a_tenant_reads_nothing_else(cloud: Cloud, inputs: Inputs, tenant: str, bucket: str, key: str) -> None:
    name = getattr(cloud, bucket)
    cloud.s3.put_object(Bucket=name, Key=key, Body=picture())
    with pytest.raises(InputRefusedError, match="outside the buckets"):
        attached(inputs, job({"image": f"s3://{name}/{key}"}, tenant=tenant))


def test_an_object_that_is_not_there_is_a_missing_input(cloud: Cloud, inputs: Inputs) -> None:
    with pytest.raises(InputMissingError, match="NoSuchKey") as caught:
        attached(inputs, job({"image": f"s3://{cloud.inputs}/nothing.png"}))
    assert caught.value.field == "content.image"


def test_an_object_larger_than_the_limit_is_refused(cloud: Cloud, inputs: Inputs) -> None:
    cloud.s3.put_object(Bucket=cloud.inputs, Key="large.png", Body=picture() + bytes(MAX_BYTES))
    with pytest.raises(InputRefusedError, match="larger than"):
        attached(inputs, job({"image": f"s3://{cloud.inputs}/large.png"}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_kind_of_picture_that_engines_read_is_taken(cloud: Cloud, inputs: Inputs, kind: str) -> None:
    cloud.s3.put_object(Bucket=cloud.inputs, Key="picture", Body=picture(kind))
    content = attached(inputs, job({"image": f"s3://{cloud.inputs}/picture"}))
    assert base64.b64decode(content["image"]) == picture(kind)


@pytest.mark.parametrize("body", [b"", b"hello", b"<html></html>", b"%PDF-1.7", b"\x1f\x8b\x08\x00"])
def test_what_is_no_picture_is_refused(cloud: Cloud, inputs: Inputs, body: bytes) -> None:
    cloud.s3.put_object(Bucket=cloud.inputs, Key="picture", Body=body)
    with pytest.raises(InputRefusedError, match="is not a PNG"):
        attached(inputs, job({"image": f"s3://{cloud.inputs}/picture"}))


@pytest.mark.parametrize(
    "value",
    ["data:image/png;base64,!!!", "data:image/png,abc", "data:text/plain;base64,aGVsbG8=", "aGVsbG8=", "!!!", "in.png"],
)
def test_an_inline_input_that_is_no_picture_is_refused(inputs: Inputs, value: str) -> None:
    with pytest.raises(InputRefusedError) as caught:
        attached(inputs, job({"image": value}))
    assert caught.value.field == "content.image"


def test_the_inputs_of_a_job_have_a_limit_together(
    cloud: Cloud, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom_agent.inputs.MAX_JOB_BYTES", 2 * len(picture()))
    cloud.s3.put_object(Bucket=cloud.inputs, Key="a.png", Body=picture())
    url = f"s3://{cloud.inputs}/a.png"
    attached(inputs, job({"init_images": [url, url]}, Task.IMAGE_TO_IMAGE))
    with pytest.raises(InputRefusedError, match="together") as caught:
        attached(inputs, job({"init_images": [url, url, url]}, Task.IMAGE_TO_IMAGE))
    assert caught.value.field == "content.init_images[2]"


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_bringing_inputs_ends_when_their_job_does(cloud: Cloud, inputs: Inputs, steps: int) -> None:
    """Before an input, between its reads, and after the last one."""
    cloud.s3.put_object(Bucket=cloud.inputs, Key="a.png", Body=picture())
    with pytest.raises(HandedBackError):
        inputs.attach(job({"image": f"s3://{cloud.inputs}/a.png"}), lambda _: "value", seconds_for(steps))


def test_every_input_field_is_replaced_and_nothing_else(cloud: Cloud, inputs: Inputs, host: PicturesHost) -> None:
    cloud.s3.put_object(Bucket=cloud.inputs, Key="a.png", Body=picture())
    data = base64.b64encode(picture()).decode()
    url, plain = f"s3://{cloud.inputs}/a.png", base64.b64encode(picture(colour="plum")).decode()
    content = {
        "prompt": url,
        "negative_prompt": host.url("/a.png"),
        "init_images": [url, plain],
        "mask": host.url("/a.png"),
        "alwayson_scripts": {"ControlNet": {"args": [{"image": {"image": url}, "module": url}]}, "other": url},
    }
    replaced = attached(inputs, job(content, Task.IMAGE_TO_IMAGE))
    assert replaced == {
        **content,
        "init_images": [data, plain],
        "mask": data,
        "alwayson_scripts": {"ControlNet": {"args": [{"image": {"image": data}, "module": url}]}, "other": url},
    }
