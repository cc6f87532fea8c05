"""Which fields of a job's content name an input picture, and what may stand in them. Pure: it fetches nothing."""

import copy
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import urlsplit

from pydantic import JsonValue

from darkroom_contract.types import Task

#: Nodes of ComfyUI that read a picture by the name of a file on the runtime.
_LOADING_NODES = frozenset({"LoadImage", "LoadImageMask", "LoadImageOutput"})
_CONTROLNET_FIELDS = ("image", "input_image", "mask", "mask_image")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class InputField:
    """A place in a job's content that holds a picture, or the URL of one."""

    path: tuple[str | int, ...]
    value: str

    @property
    def name(self) -> str:
        """The field as an error names it: ``content.init_images[0]``."""
        return "content" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)

    @property
    def is_url(self) -> bool:
        """Whether the picture has to be fetched."""
        return self.value.startswith(("https://", "http://", "s3://"))


def input_fields(task: Task, content: dict[str, JsonValue]) -> Iterator[InputField]:
    """Every input field of the content that has a string. Whatever else looks like a URL, a prompt say, is none."""
    for path in _PATHS[task](content):
        value = _at(content, path)
        if isinstance(value, str) and value:
            yield InputField(path, value)


def replace_inputs(content: dict[str, JsonValue], values: dict[InputField, str]) -> dict[str, JsonValue]:
    """A copy of the content with other values in its input fields."""
    replaced = copy.deepcopy(content)
    for field, value in values.items():
        _at(replaced, field.path[:-1])[field.path[-1]] = value
    return replaced


def check_url(url: str) -> None:
    """Refuse a URL that no agent would fetch; raises ``ValueError`` with what would be right.

    It looks at the text alone. What a host's name resolves to is checked where it is fetched.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "s3"):
        raise ValueError("an input is fetched from https:// or s3:// only")
    if not parts.hostname:
        raise ValueError("the URL has no host")
    if parts.username or parts.password:
        raise ValueError("the URL must not carry a user name or password")
    if parts.scheme == "s3":
        if not parts.path.strip("/"):
            raise ValueError("an s3:// URL is s3://<bucket>/<key>")
        return
    _ = parts.port  # raises ValueError when it is not a number
    host = parts.hostname.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        raise ValueError("the URL's host is this host; only public hosts are fetched from")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    if not is_public(address):
        raise ValueError("the URL's host is a private, loopback, link-local or reserved address")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address may be fetched from: global, not multicast, and hiding no IPv4 address that may not."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        hidden = address.ipv4_mapped or address.sixtofour
        if hidden is not None:
            return is_public(hidden)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


_Path = tuple[str | int, ...]


def _web_ui_paths(content: dict[str, JsonValue]) -> Iterator[_Path]:
    images = content.get("init_images")
    yield from (("init_images", index) for index in range(len(images) if isinstance(images, list) else 0))
    yield ("mask",)
    scripts = content.get("alwayson_scripts")
    for script, settings in scripts.items() if isinstance(scripts, dict) else ():
        units = settings.get("args") if script.lower() == "controlnet" and isinstance(settings, dict) else None
        for index, unit in enumerate(units if isinstance(units, list) else ()):
            for field in _CONTROLNET_FIELDS if isinstance(unit, dict) else ():
                here = ("alwayson_scripts", script, "args", index, field)
                yield here
                yield from ((*here, inner) for inner in ("image", "mask"))


def _single_image_paths(_content: dict[str, JsonValue]) -> Iterator[_Path]:
    yield ("image",)


def _batch_images_paths(content: dict[str, JsonValue]) -> Iterator[_Path]:
    images = content.get("imageList")
    yield from (("imageList", index, "data") for index in range(len(images) if isinstance(images, list) else 0))


def _pipeline_paths(content: dict[str, JsonValue]) -> Iterator[_Path]:
    for name, node in content.items():
        if isinstance(node, dict) and node.get("class_type") in _LOADING_NODES:
            yield (name, "inputs", "image")


_PATHS = {
    Task.TEXT_TO_IMAGE: _web_ui_paths,
    Task.IMAGE_TO_IMAGE: _web_ui_paths,
    Task.EXTRA_SINGLE_IMAGE: _single_image_paths,
    Task.EXTRA_BATCH_IMAGES: _batch_images_paths,
    Task.PIPELINE: _pipeline_paths,
}


def _at(value: JsonValue, path: _Path) -> Any:
    """What stands at a path, or None where the path leads nowhere."""
    here: Any = value
    for part in path:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            return None
    return here
