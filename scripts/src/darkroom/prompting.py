"""What ``darkroom prompt`` sends and shows: a request from the words of a command line, and a job on its way."""

import base64
import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from darkroom.client import Client, RequestRefused
from darkroom.trouble import UsageError
from darkroom_contract.job import is_workflow
from darkroom_contract.types import OutputFormat, PictureFormat, Task
from darkroom_contract.v1 import JobView, SubmitRequest

#: Stands in a workflow file where the prompt's text goes.
PLACEHOLDER = "{{prompt}}"
#: Of a picture that is drawn, in pixels; of one that is drawn over, the root of width times height.
_SIDE = 512
#: Engines draw in units of so many pixels.
_UNIT = 8


def build_request(
    job_id: str,
    runtime: str,
    text: str,
    *,
    image: Path | None,
    workflow: str | None,
    inputs: Sequence[str],
    settings: Mapping[str, int | None],
) -> SubmitRequest:
    """The request for a prompt; raises ``UsageError``.

    ``workflow`` is a file, or else the name of one of the runtime's, with ``inputs`` as ``name=value``. Without it the
    request is a web UI's text-to-image, or image-to-image when there is an image. ``settings`` are ``seed`` and
    ``steps``; None is as they are. Only a named workflow goes without a text.
    """
    chosen = {name: value for name, value in settings.items() if value is not None}
    if workflow is not None and not (workflow.endswith(".json") or Path(workflow).is_file()):
        named: dict[str, Any] = {"prompt": text, **chosen} if text.strip() else {**chosen}
        if image is not None:
            named["image"] = _data_url(image)
        for name, value in map(_input, inputs):
            if name in named:
                said = "the text" if name == "prompt" else f"--{name}"
                instead = f"leave one of them out{', or make the text empty' * (name == 'prompt')}"
                raise UsageError(f"--input {name}=… says again what {said} or another --input says: {instead}")
            named[name] = value
        return SubmitRequest(id=job_id, runtime=runtime, task=Task.PIPELINE, workflow=workflow, inputs=named)
    if inputs:
        raise UsageError("--input goes with --workflow and the name of one of the runtime's workflows")
    if not text.strip():
        raise UsageError("the text is empty: say what to draw")
    if workflow is not None:
        graph = _fill_in(_load_workflow(Path(workflow)), text, image, chosen)
        return SubmitRequest(id=job_id, runtime=runtime, task=Task.PIPELINE, content=graph)
    content: dict[str, Any] = {"prompt": text, "steps": 20, **chosen}
    if image is None:
        content |= {"width": _SIDE, "height": _SIDE}
        return SubmitRequest(id=job_id, runtime=runtime, task=Task.TEXT_TO_IMAGE, content=content)
    content |= {**_size_like(image), "init_images": [_base64(image)]}
    return SubmitRequest(id=job_id, runtime=runtime, task=Task.IMAGE_TO_IMAGE, content=content)


def output_format(picture_format: PictureFormat | None, quality: int | None) -> OutputFormat | None:
    """The format to ask for; raises ``UsageError`` for a quality of nothing, or of what has none."""
    if quality is not None and picture_format in (None, PictureFormat.PNG):
        raise UsageError("--quality goes with --format jpeg, webp or avif")
    return OutputFormat(format=picture_format, quality=quality) if picture_format else None


def submit(client: Client, request: SubmitRequest) -> JobView:
    """Submit a request; raises what the client does, and ``UsageError`` if ComfyUI is sent no workflow."""
    try:
        return client.submit(request)
    except RequestRefused as refused:
        of_content = refused.error.field == "content" and "workflow" in refused.error.message
        if request.task is Task.PIPELINE or not of_content:
            raise
        raise UsageError(
            f"{request.runtime} is a runtime of ComfyUI, which draws by a workflow: add --workflow, with the NAME of "
            "one of the runtime's or a FILE in ComfyUI's API format"
        ) from None


def show_progress(
    console: Console, client: Client, job: JobView, meanwhile: Callable[[], None] = lambda: None
) -> JobView:
    """Follow a job on the console until nothing will change any more, and return it. Nothing of that stays there."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(str(job.status), total=1.0)
        latest = job
        for latest in client.follow(job, meanwhile):
            done = 1.0 if latest.status.is_final else latest.progress
            progress.update(bar, description=str(latest.status), completed=done)
    return latest


def save_pictures(client: Client, job: JobView, folder: Path) -> Iterator[Path]:
    """Save a job's pictures in the folder under their own names."""
    for image in job.images:
        path = folder / image.location.rpartition("/")[2]
        path.write_bytes(client.download(image))
        yield path


def _load_workflow(path: Path) -> dict[str, Any]:
    try:
        graph = json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(
            f"{path}: there is no such file; a workflow of the runtime's has no .json in its name"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: it is not JSON: {error}") from None
    if not is_workflow(graph):
        raise UsageError(f"{path}: not a workflow in API format; export it by ComfyUI's menu Export (API)")
    workflow: dict[str, Any] = graph
    return workflow


def _fill_in(graph: dict[str, Any], text: str, image: Path | None, settings: dict[str, int]) -> dict[str, Any]:
    """The workflow with the prompt's text, the image and the settings in their places."""
    filled = copy.deepcopy(graph)
    missing = {PLACEHOLDER, *settings, *(["LoadImage"] if image else [])}
    for node in filled.values():
        inputs = node.get("inputs", {})
        for name, value in inputs.items():
            if isinstance(value, str) and PLACEHOLDER in value:
                inputs[name] = value.replace(PLACEHOLDER, text)
                missing.discard(PLACEHOLDER)
        for name in settings.keys() & inputs.keys():
            inputs[name] = settings[name]
            missing.discard(name)
        if node["class_type"] == "LoadImage" and image is not None:
            inputs["image"] = _data_url(image)
            missing.discard("LoadImage")
    if missing:
        raise UsageError(f"the workflow has no place for what is given: no {', '.join(sorted(missing))}")
    return filled


def _input(text: str) -> tuple[str, Any]:
    """An input and its value: what is no number, ``true`` or ``false``, nor in quotes, is a text as it stands."""
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"--input {text}: write it as name=value")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    is_value = isinstance(parsed, str | int) or (isinstance(parsed, float) and math.isfinite(parsed))
    return name, parsed if is_value else value


def _size_like(image: Path) -> dict[str, int]:
    """Width and height of a usual picture in the shape of this one."""
    try:
        with Image.open(image) as opened:
            # Upright, as the engines draw over it.
            sides = dict(zip(("width", "height"), ImageOps.exif_transpose(opened).size, strict=True))
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise UsageError(f"{image}: it is no picture: {error}") from None
    except OSError as error:
        raise UsageError(f"{image}: {error.strerror or error}") from None
    scale = _SIDE / math.sqrt(math.prod(sides.values()))
    return {name: max(_UNIT, round(side * scale / _UNIT) * _UNIT) for name, side in sides.items()}


def _data_url(path: Path) -> str:
    return f"data:image/{path.suffix.lstrip('.').lower()};base64,{_base64(path)}"


def _base64(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
