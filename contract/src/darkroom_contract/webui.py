"""What a web UI cannot do, and what a job may not do to one that others use too. Pure.

Source of the names: the web UI's modules/processing.py, modules/shared_options.py (its ``restricted_opts`` among them)
and the ControlNet extension's settings. A setting that a job overrides holds for all jobs of the pod unless it is
restored afterwards.
"""

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from darkroom_contract.types import Task

#: A number as the web UI reads one: "20" is 20.
_NUMBER: TypeAdapter[float] = TypeAdapter(Annotated[float, Field(allow_inf_nan=False)])
#: The least that each number may be: with less, or with null, the web UI fails in mid-run with 500, which looks like
#: trouble of its own. It sets no upper limits; what is too much is a matter of the GPU. Pictures are in units of 8
#: pixels: its ``opt_f``.
_LEAST = {"steps": 1, "batch_size": 1, "n_iter": 1, "width": 8, "height": 8, "cfg_scale": -math.inf}
_LEAST_BY_TASK = {Task.TEXT_TO_IMAGE: _LEAST, Task.IMAGE_TO_IMAGE: {**_LEAST, "denoising_strength": 0}}

#: Settings that name files and folders of the pod, write to its disk, or say what the pod itself may fetch.
_RUNTIME_SETTINGS = (
    "outdir_*",
    "directories_*",
    "save_*",
    "api_*",
    "*_dir",
    "*_path",
    "*_filename",
    "*_filename_pattern",
    "*_state_file",
    "font",
)


def impossible(task: Task, content: dict[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """The fields with which no web UI makes a picture, and what would be right."""
    for name, least in _LEAST_BY_TASK.get(task, {}).items():
        number = _number(content[name]) if name in content else math.inf
        if number is None or number < least:
            expected = "a number" if least == -math.inf else f"a number, {least} or more"
            yield name, f"it has to be {expected}; left out, it is the web UI's own default"
    if task is Task.IMAGE_TO_IMAGE:
        given, most = content.get("init_images"), _number(content.get("batch_size", 1)) or 1
        images = given if isinstance(given, list) else []
        if not 0 < len(images) <= max(1, most) or not all(isinstance(image, str) and image for image in images):
            expected = "a list of pictures: at least one, and no more than batch_size (1, left out)"
            yield "init_images", f"it has to be {expected}"


def _number(value: JsonValue) -> float | None:
    try:
        return _NUMBER.validate_python(value)
    except ValidationError:
        return None


def runtime_settings(content: dict[str, JsonValue]) -> Iterator[str]:
    """The settings in ``override_settings`` that are not a job's to make."""
    settings = content.get("override_settings")
    for name in settings if isinstance(settings, dict) else ():
        if any(fnmatchcase(name, pattern) for pattern in _RUNTIME_SETTINGS):
            yield name


def hardened(content: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The body with its settings restored afterwards, and nothing saved on the pod's disk. Idempotent."""
    safe: dict[str, JsonValue] = {}
    if "override_settings" in content or "override_settings_restore_afterwards" in content:
        safe["override_settings_restore_afterwards"] = True
    if "save_images" in content:
        safe["save_images"] = False
    return {**content, **safe}
