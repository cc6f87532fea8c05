"""Which fields of a job's content name an input picture, and what may stand in them. Pure: it fetches nothing."""

import base64
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from darkroom_contract.types import Task
from darkroom_contract.urls import check_url

#: How many pictures a job may have fetched or decoded.
MAX_INPUTS = 16
#: What a file system takes as a name.
MAX_FILE_NAME_LENGTH = 255

#: Nodes of ComfyUI that read a picture by the name of a file on the runtime.
_PICTURE_NODES = ("LoadImage", "LoadImageMask", "LoadImageOutput")
_PICTURE_FIELD = "image"
#: ComfyUI's own nodes that join a name to a folder without looking whether it leads out of it (nodes.py, comfy_extras).
_FILE_NODES = (
    *_PICTURE_NODES,
    "Load3D",
    "Load3DAnimation",
    "LoadAudio",
    "LoadImageDataSetFromFolder",
    "LoadImageTextDataSetFromFolder",
    "LoadLatent",
    "LoadTrainingDataset",
    "LoadVideo",
    "LoadVideoDataSetFromFolder",
    "LoadVideoTextDataSetFromFolder",
    "RecordAudio",
    "SaveImageDataSetToFolder",
    "SaveImageTextDataSetToFolder",
    "SaveTrainingDataset",
    "WebcamCapture",
)
#: By these at its end a name chooses the folder: ComfyUI's folder_paths.annotated_filepath.
_FOLDER_SUFFIXES = ("[input]", "[output]", "[temp]")

_CONTROLNET_FIELDS = ("image", "input_image", "mask", "mask_image", "effective_region_mask")
#: Fields of a ControlNet unit that name folders of the runtime.
_CONTROLNET_FOLDERS = ("batch_images", "output_dir")


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

    @property
    def is_data_url(self) -> bool:
        """Whether the picture stands in it as a ``data:`` URL."""
        return self.value.startswith("data:")


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


def is_picture_field(node: dict[str, JsonValue], field: str) -> bool:
    """Whether a node of a workflow opens a picture by this of its inputs."""
    return field == _PICTURE_FIELD and node.get("class_type") in _PICTURE_NODES


def decoded(value: str) -> bytes:
    """What stands in base64, or in a ``data:`` URL of it; raises ``ValueError`` with what would be right."""
    data = value
    if value.startswith("data:"):
        header, _, data = value.partition(",")
        if not header.endswith(";base64"):
            raise ValueError("a data: URL of a picture is data:<type>;base64,<data>")
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except ValueError:
        raise ValueError("an input is base64, a data: URL, or an https:// or s3:// URL") from None


def problems(task: Task, content: dict[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """What no agent may do about the inputs: the name of each field, and what would be right.

    It decodes base64 but does not look at the pictures in it.
    """
    fields = [field for field in input_fields(task, content) if task is not Task.PIPELINE or _is_picture(field)]
    if len(fields) > MAX_INPUTS:
        yield fields[MAX_INPUTS].name, f"a job may have {MAX_INPUTS} input pictures"
        return
    names = [name for name in _file_names(content) if name not in fields] if task is Task.PIPELINE else []
    for check, field in [(_check_picture, field) for field in fields] + [(_check_file_name, name) for name in names]:
        try:
            check(field)
        except ValueError as error:
            yield field.name, str(error)
    if task in (Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE):
        for path, unit in _controlnet_units(content):
            for folder in _CONTROLNET_FOLDERS:
                if unit.get(folder):
                    yield InputField((*path, folder), "").name, "it names a folder of the runtime; leave it out"


def _is_picture(field: InputField) -> bool:
    """Whether a workflow's field has a picture, and not a file's name."""
    return field.is_url or field.is_data_url


def _check_picture(field: InputField) -> None:
    if field.is_url:
        check_url(field.value)
    else:
        decoded(field.value)


def _check_file_name(field: InputField) -> None:
    name = field.value
    if len(name) > MAX_FILE_NAME_LENGTH:
        limit = f"a file's name has {MAX_FILE_NAME_LENGTH} characters at most"
        raise ValueError(f"base64 comes as a data: URL in a workflow; {limit}")
    if name.endswith(_FOLDER_SUFFIXES) or "\\" in name or "\0" in name or {"", "..", "."} & set(name.split("/")):
        raise ValueError(
            "a file is named by its plain path in the runtime's input folder, without '..', '\\', a leading '/' "
            "or an ending such as ' [output]'; a picture from elsewhere is an https:// or s3:// URL, or a data: URL"
        )


_Path = tuple[str | int, ...]


def _web_ui_paths(content: dict[str, JsonValue]) -> Iterator[_Path]:
    images = content.get("init_images")
    yield from (("init_images", index) for index in range(len(images) if isinstance(images, list) else 0))
    yield ("mask",)
    for path, unit in _controlnet_units(content):
        for field in _CONTROLNET_FIELDS:
            yield from _controlnet_pictures(unit.get(field), (*path, field))


def _controlnet_units(content: dict[str, JsonValue]) -> Iterator[tuple[_Path, dict[str, JsonValue]]]:
    scripts = content.get("alwayson_scripts")
    for script, settings in scripts.items() if isinstance(scripts, dict) else ():
        units = settings.get("args") if script.lower() == "controlnet" and isinstance(settings, dict) else None
        for index, unit in enumerate(units if isinstance(units, list) else ()):
            if isinstance(unit, dict):
                yield ("alwayson_scripts", script, "args", index), unit


def _controlnet_pictures(value: JsonValue, path: _Path) -> Iterator[_Path]:
    """A unit takes a picture, a pair of picture and mask, an object of both, or a list of such objects."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _controlnet_pictures(item, (*path, index))
    elif isinstance(value, dict):
        for part in ("image", "mask"):
            yield from _controlnet_pictures(value.get(part), (*path, part))
    else:
        yield path


def _single_image_paths(_content: dict[str, JsonValue]) -> Iterator[_Path]:
    yield ("image",)


def _batch_images_paths(content: dict[str, JsonValue]) -> Iterator[_Path]:
    images = content.get("imageList")
    yield from (("imageList", index, "data") for index in range(len(images) if isinstance(images, list) else 0))


def _pipeline_paths(content: dict[str, JsonValue]) -> Iterator[_Path]:
    for name, node in content.items():
        if isinstance(node, dict) and is_picture_field(node, _PICTURE_FIELD):
            yield (name, "inputs", _PICTURE_FIELD)


def _file_names(content: dict[str, JsonValue]) -> Iterator[InputField]:
    """Every text in the inputs of the nodes that open files by name: most have but this one."""
    for name, node in content.items():
        if isinstance(node, dict) and node.get("class_type") in _FILE_NODES:
            yield from _texts(node.get("inputs"), (name, "inputs"))


def _texts(value: JsonValue, path: _Path) -> Iterator[InputField]:
    """The texts in objects. A list is a link to another node."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, (*path, name))
    elif isinstance(value, str) and value:
        yield InputField(path, value)


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
