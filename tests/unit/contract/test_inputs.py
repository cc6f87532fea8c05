"""Input fields: where a picture may be named, and from where it may come."""

import ipaddress
from typing import Any

import pytest

from darkroom_contract.inputs import check_url, input_fields, is_public, replace_inputs
from darkroom_contract.types import Task

URL = "https://example.com/a.png"


@pytest.mark.parametrize(
    ("task", "content", "fields"),
    [
        (Task.TEXT_TO_IMAGE, {"prompt": URL, "negative_prompt": "s3://b/k"}, []),
        (
            Task.IMAGE_TO_IMAGE,
            {"init_images": [URL, "aGk="], "mask": URL},
            ["init_images[0]", "init_images[1]", "mask"],
        ),
        (Task.EXTRA_SINGLE_IMAGE, {"image": URL, "upscaler_1": URL}, ["image"]),
        (Task.EXTRA_BATCH_IMAGES, {"imageList": [{"data": URL, "name": URL}]}, ["imageList[0].data"]),
        (
            Task.TEXT_TO_IMAGE,
            {
                "alwayson_scripts": {
                    "ControlNet": {"args": [{"image": {"image": URL}}, {"input_image": URL, "model": URL}]}
                }
            },
            ["alwayson_scripts.ControlNet.args[0].image.image", "alwayson_scripts.ControlNet.args[1].input_image"],
        ),
        (
            Task.PIPELINE,
            {
                "1": {"class_type": "LoadImage", "inputs": {"image": URL}},
                "2": {"class_type": "CLIPTextEncode", "inputs": {"text": URL}},
            },
            ["1.inputs.image"],
        ),
        (Task.IMAGE_TO_IMAGE, {"init_images": "no list", "alwayson_scripts": [], "mask": {"a": 1}}, []),
    ],
)
def test_only_input_fields_name_pictures(task: Task, content: dict[str, Any], fields: list[str]) -> None:
    assert [field.name for field in input_fields(task, content)] == [f"content.{name}" for name in fields]


def test_replacing_inputs_leaves_the_original_as_it_was() -> None:
    content: dict[str, Any] = {"init_images": [URL], "prompt": URL}
    (field,) = input_fields(Task.IMAGE_TO_IMAGE, content)
    assert replace_inputs(content, {field: "aGk="}) == {"init_images": ["aGk="], "prompt": URL}
    assert content == {"init_images": [URL], "prompt": URL}


@pytest.mark.parametrize("url", [URL, "s3://bucket/key", "https://93.184.216.34/a", "https://[2606:4700::1111]/a"])
def test_public_places_are_fetched_from(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "ftp://example.com/a.png",
        "https:///a.png",
        "https://user:secret@example.com/a.png",
        "https://localhost/a",
        "https://a.localhost./a",
        "https://127.0.0.1/a",
        "https://[::1]/a",
        "https://169.254.169.254/latest",
        "https://[fd00:ec2::254]/latest",
        "https://[::ffff:10.0.0.1]/a",
        "https://10.1.2.3/a",
        "https://example.com:port/a",
        "s3://bucket",
        "s3://bucket/",
    ],
)
def test_everything_else_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "100.64.0.1", "192.168.0.1", "224.0.0.1", "255.255.255.255", "fe80::1", "ff02::1", "::"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:127.0.0.1"),
    ],
)
def test_addresses_that_are_not_public_are_known(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
