"""Input fields: where a picture may be named, and from where it may come."""

import base64
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_contract.inputs import MAX_INPUTS, input_fields, problems, replace_inputs
from darkroom_contract.types import Task
from darkroom_contract.urls import check_url, is_public

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
            Task.TEXT_TO_IMAGE,
            {"alwayson_scripts": {"controlnet": {"args": [{"image": [URL, "aGk="], "effective_region_mask": URL}]}}},
            [
                "alwayson_scripts.controlnet.args[0].image[0]",
                "alwayson_scripts.controlnet.args[0].image[1]",
                "alwayson_scripts.controlnet.args[0].effective_region_mask",
            ],
        ),
        (
            Task.TEXT_TO_IMAGE,
            {"alwayson_scripts": {"controlnet": {"args": [{"image": [{"image": URL, "mask": URL}, {"image": URL}]}]}}},
            [
                "alwayson_scripts.controlnet.args[0].image[0].image",
                "alwayson_scripts.controlnet.args[0].image[0].mask",
                "alwayson_scripts.controlnet.args[0].image[1].image",
            ],
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


def one_field(task: Task, field: str, value: Any) -> dict[str, Any]:
    """A content with a value in one of its input fields."""
    match field:
        case "mask" | "image":
            return {field: value}
        case "init_images":
            return {field: [value]}
        case "imageList":
            return {field: [{"data": value}]}
        case _:
            return {"alwayson_scripts": {"ControlNet": {"args": [{field: value}]}}}


@pytest.mark.parametrize(
    ("task", "field"),
    [
        (Task.IMAGE_TO_IMAGE, "mask"),
        (Task.IMAGE_TO_IMAGE, "init_images"),
        (Task.EXTRA_SINGLE_IMAGE, "image"),
        (Task.EXTRA_BATCH_IMAGES, "imageList"),
        (Task.TEXT_TO_IMAGE, "input_image"),
    ],
)
@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("aGk=", True),
        ("aGlo\naGlo\n", True),
        ("data:image/png;base64,aGk=", True),
        (URL, True),
        ("s3://bucket/key", True),
        ("/etc/passwd", False),
        ("outputs/txt2img-images/a.png", False),
        ("aGk", False),
        ("aGké", False),
        ("HTTPS://example.com/a.png", False),
        ("http://example.com/a.png", False),
        ("data:image/png,aGk=", False),
        ("data:image/png;base64,a.k=", False),
    ],
)
def test_a_picture_for_the_web_ui_is_base64_or_a_url(task: Task, field: str, value: str, fine: bool) -> None:
    content = one_field(task, field, value)
    [given_field] = input_fields(task, content)
    assert [name for name, _ in problems(task, content)] == ([] if fine else [given_field.name])


@given(st.binary(max_size=300))
def test_whatever_is_base64_is_taken(picture: bytes) -> None:
    content: dict[str, Any] = {"init_images": [base64.b64encode(picture).decode()]}
    assert not list(problems(Task.IMAGE_TO_IMAGE, content))


@pytest.mark.parametrize("field", ["batch_images", "output_dir"])
def test_a_folder_of_the_runtime_is_no_input_of_controlnet(field: str) -> None:
    content = one_field(Task.IMAGE_TO_IMAGE, field, "/outputs")
    assert [name for name, _ in problems(Task.IMAGE_TO_IMAGE, content)] == [
        f"content.alwayson_scripts.ControlNet.args[0].{field}"
    ]
    assert not list(problems(Task.IMAGE_TO_IMAGE, one_field(Task.IMAGE_TO_IMAGE, field, "")))


@pytest.mark.parametrize(
    "value",
    ["a.png", "folder/a b.png", "x" * 255, URL, "s3://bucket/key", "data:image/png;base64,aGk=", ["4", 0], "a..png"],
)
def test_a_loading_node_takes_a_plain_name_a_picture_or_a_link(value: Any) -> None:
    workflow: dict[str, Any] = {"1": {"class_type": "LoadImage", "inputs": {"image": value, "upload": "image"}}}
    assert not list(problems(Task.PIPELINE, workflow))


ESCAPES = [
    *("/etc/passwd", "../a.png", "a/../../b.png", "a//b.png", "./a.png", "..\\a.png", "a\0.png", "a/"),
    *("a.png [output]", "a.png[output]", "a.png [temp]", "a.png [input]", "x" * 256),
]


@pytest.mark.parametrize("value", [*ESCAPES, "http://example.com/a.png", "https://10.0.0.1/a.png"])
def test_a_loading_node_opens_no_other_file(value: str) -> None:
    workflow: dict[str, Any] = {"1": {"class_type": "LoadImage", "inputs": {"image": value}}}
    assert [name for name, _ in problems(Task.PIPELINE, workflow)] == ["content.1.inputs.image"]


@pytest.mark.parametrize("value", ESCAPES)
@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("LoadImageMask", ("image",)),
        ("LoadImageOutput", ("image",)),
        ("LoadImage", ("image", "__value__")),
        ("LoadAudio", ("audio",)),
        ("LoadVideo", ("file",)),
        ("LoadLatent", ("latent",)),
        ("Load3D", ("image", "mask")),
        ("LoadTrainingDataset", ("folder_name",)),
        ("WebcamCapture", ("image",)),
    ],
)
def test_every_text_of_a_node_that_opens_files_is_a_plain_name(node: str, path: tuple[str, ...], value: str) -> None:
    inputs: Any = value
    for part in reversed(path):
        inputs = {part: inputs}
    [(field, reason)] = problems(Task.PIPELINE, {"7": {"class_type": node, "inputs": inputs}})
    assert field == ".".join(("content", "7", "inputs", *path))
    assert "data: URL" in reason


def test_the_texts_of_other_nodes_are_their_own() -> None:
    inputs: dict[str, Any] = {"text": "../a cat [output] " * 99, "image": "/b"}
    assert not list(problems(Task.PIPELINE, {"1": {"class_type": "CLIPTextEncode", "inputs": inputs}, "2": {}}))


def test_what_is_no_workflow_has_no_problem_with_its_nodes() -> None:
    content: dict[str, Any] = {"1": {"class_type": []}, "2": {"class_type": "LoadImage"}, "3": "a"}
    assert not list(problems(Task.PIPELINE, content))


@pytest.mark.parametrize(
    ("task", "content"),
    [
        (Task.IMAGE_TO_IMAGE, lambda count: {"init_images": ["aGk="] * count}),
        (Task.EXTRA_BATCH_IMAGES, lambda count: {"imageList": [{"data": URL}] * count}),
        (
            Task.PIPELINE,
            lambda count: {
                **{str(n): {"class_type": "LoadImage", "inputs": {"image": URL}} for n in range(count)},
                **{f"file-{n}": {"class_type": "LoadImage", "inputs": {"image": "a.png"}} for n in range(count)},
            },
        ),
    ],
)
def test_a_job_has_a_limited_number_of_pictures(task: Task, content: Any) -> None:
    assert not list(problems(task, content(MAX_INPUTS)))
    [(field, reason)] = problems(task, content(MAX_INPUTS + 1))
    assert str(MAX_INPUTS) in field
    assert f"{MAX_INPUTS} input pictures" in reason


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "100.64.0.1", "192.168.0.1", "224.0.0.1", "255.255.255.255", "fe80::1", "ff02::1", "::"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:127.0.0.1"),
        *("::169.254.169.254", "::127.0.0.1", "::ffff:0:a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "64:ff9b::a9fe:a9fe"),
        *("fec0::1", "fd00:ec2::254", "::1", "::ffff:8.8.8.8", "2002:808:808::", "2001:db8::1", "3fff::1", "5f00::1"),
        *("192.0.0.8", "192.0.0.9", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        *("10.0.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1", "240.0.0.1"),
    ],
)
def test_addresses_that_are_not_public_are_known(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"])
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_no_address_is_public_that_python_knows_to_be_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_private or address.is_link_local or address.is_loopback or address.is_reserved:
        assert not is_public(address) or address in ipaddress.ip_network("64:ff9b::/96")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_no_better_when_it_hides_in_ipv6(address: ipaddress.IPv4Address) -> None:
    assert is_public(ipaddress.IPv6Address(f"64:ff9b::{address}")) == is_public(address)
    for hiding in (f"::{address}", f"::ffff:{address}", f"::ffff:0:{address}", f"64:ff9b:1::{address}"):
        assert not is_public(ipaddress.IPv6Address(hiding))
