"""The node types that the demo runtime understands, with the inputs and limits that ComfyUI's nodes.py gives them.

What passes along the links: MODEL and CLIP are names, CONDITIONING is a text, LATENT is a `Latent`, IMAGE a list of
Pillow images, MASK one. Nodes write into the output and temporary folders only.
"""

import hashlib
import json
import re
import string
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, ImageOps

from darkroom_demo import catalog
from darkroom_demo.diffusion.schedules import sigmas
from darkroom_demo.drawing import Pace, Picture, Sampling, generate, png

MAX_RESOLUTION = 16384
SEED_MAX = 0xFFFFFFFFFFFFFFFF
LONGEST_SCHEDULE = 1_000_000  # steps


class InterruptedRunError(Exception):
    """The prompt was interrupted: ComfyUI's InterruptProcessingException."""


@dataclass(frozen=True)
class Folders:
    """Where the engine keeps files, by the names that its API has for them."""

    input: Path
    output: Path
    temp: Path

    def of(self, kind: str) -> Path | None:
        """Return the folder of that name, or None."""
        return {"input": self.input, "output": self.output, "temp": self.temp}.get(kind)

    def images(self) -> list[str]:
        """Return the names of the files that LoadImage offers."""
        return sorted(path.name for path in self.input.iterdir() if path.is_file())


@dataclass(frozen=True)
class Context:
    """What a node may use while it runs."""

    folders: Folders
    pace: Pace
    prompt: Mapping[str, Any]
    extra_pnginfo: Mapping[str, Any]
    on_progress: Callable[[int, int], None]


Run: TypeAlias = Callable[[Context, Mapping[str, Any]], tuple[tuple[Any, ...], dict[str, Any] | None]]
Choices: TypeAlias = Sequence[str] | Callable[[Folders], Sequence[str]]


@dataclass(frozen=True)
class Input:
    """An input of a node type: a type's name or the values to choose from, and options such as min and max."""

    kind: str | Choices
    options: Mapping[str, Any] = field(default_factory=dict)

    def type(self, folders: Folders) -> str | list[str]:
        """Return the type as ComfyUI's API gives it: a name, or the list of values."""
        if isinstance(self.kind, str):
            return self.kind
        return list(self.kind(folders) if callable(self.kind) else self.kind)


@dataclass(frozen=True)
class NodeType:
    """A node type. `changed` tells apart runs whose inputs are alike; `check` returns what is wrong with a value."""

    inputs: Mapping[str, Input]
    outputs: Sequence[str]
    run: Run
    category: str
    display_name: str
    hidden: Mapping[str, str] = field(default_factory=dict)
    is_output: bool = False
    changed: Callable[[Folders, Mapping[str, Any]], str] | None = None
    checks: Mapping[str, Callable[[Folders, Any], str | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Latent:
    """A batch of latents: its size in pixels, and its pictures where it has any."""

    width: int
    height: int
    count: int
    images: tuple[Image.Image, ...] = ()


def _ksampler(context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], None]:
    latent: Latent = inputs["latent_image"]
    steps, denoise = inputs["steps"], inputs["denoise"]
    if denoise == 0:
        return (latent,), None
    pictures = [
        Picture(
            prompt=inputs["positive"],
            negative_prompt=inputs["negative"],
            seed=inputs["seed"],
            width=latent.width,
            height=latent.height,
            index=index,
            initial=latent.images[index] if latent.images else None,
        )
        for index in range(latent.count)
    ]
    if steps / denoise > LONGEST_SCHEDULE:
        raise ValueError(f"denoise has to be {steps / LONGEST_SCHEDULE} or more for {steps} steps, not {denoise}")
    # comfy/samplers.py, KSampler.set_steps: all of the steps are run, from further down a longer schedule.
    levels = sigmas(inputs["sampler_name"], inputs["scheduler"], int(steps / denoise))[-(steps + 1) :]
    sampling = Sampling(inputs["sampler_name"], levels, inputs["cfg"])
    images = generate(pictures, sampling, context.pace, lambda number, _preview: context.on_progress(number, steps))
    if context.pace.interrupted.is_set():
        raise InterruptedRunError
    return (replace(latent, images=tuple(images)),), None


def _vae_decode(_context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], None]:
    latent: Latent = inputs["samples"]
    # An empty latent decodes to something brown.
    empty = Image.new("RGB", (latent.width, latent.height), (121, 104, 91))
    return (list(latent.images) or [empty] * latent.count,), None


def _vae_encode(_context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], None]:
    images: list[Image.Image] = inputs["pixels"]
    width, height = (max(side // 8 * 8, 8) for side in images[0].size)
    # What does not fill whole latents is cut off evenly at both sides.
    cropped = tuple(ImageOps.fit(image, (width, height)) for image in images)
    return (Latent(width, height, len(images), cropped),), None


def _empty_latent(_context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], None]:
    return (Latent(inputs["width"] // 8 * 8, inputs["height"] // 8 * 8, inputs["batch_size"]),), None


def _load_image(context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], None]:
    with Image.open(context.folders.input / inputs["image"]) as image:
        upright = ImageOps.exif_transpose(image)
        alpha = ImageOps.invert(upright.convert("RGBA").getchannel("A"))
        return ([upright.convert("RGB")], alpha), None


def _image_hash(folders: Folders, inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256((folders.input / inputs["image"]).read_bytes()).hexdigest()


def _missing_image(folders: Folders, name: Any) -> str | None:
    path = (folders.input / str(name)).resolve()
    if path.is_relative_to(folders.input.resolve()) and path.is_file():
        return None
    return f"Invalid image file: {name}"


def _image_scale(_context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], None]:
    images: list[Image.Image] = inputs["image"]
    width, height = inputs["width"], inputs["height"]
    if not width and not height:
        return (images,), None
    original = images[0].size
    size = (
        width or max(1, round(original[0] * height / original[1])),
        height or max(1, round(original[1] * width / original[0])),
    )
    methods = {
        "nearest-exact": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "area": Image.Resampling.BOX,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    method = methods[inputs["upscale_method"]]
    if inputs["crop"] == "center":
        return ([ImageOps.fit(image, size, method) for image in images],), None
    return ([image.resize(size, method) for image in images],), None


def _save(
    context: Context, inputs: Mapping[str, Any], prefix: str, kind: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Write images as <prefix>_<counter>_.png and return what the `executed` message says of them."""
    images: list[Image.Image] = inputs["images"]
    root = context.folders.output if kind == "output" else context.folders.temp
    path = root / _filled(prefix, images[0].size)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError("**** ERROR: Saving image outside the output folder is not allowed.")
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = re.compile(rf"{re.escape(path.name)}_(\d+)_.*\.png")
    numbers = [int(match[1]) for file in path.parent.iterdir() if (match := taken.fullmatch(file.name))]
    texts = {"prompt": json.dumps(context.prompt)}
    texts |= {key: json.dumps(value) for key, value in context.extra_pnginfo.items()}
    saved = []
    for index, image in enumerate(images):
        name = f"{path.name}_{max(numbers, default=0) + 1 + index:05}_.png".replace("%batch_num%", str(index))
        (path.parent / name).write_bytes(png(image, texts))
        subfolder = path.parent.relative_to(root).as_posix()
        saved.append({"filename": name, "subfolder": "" if subfolder == "." else subfolder, "type": kind})
    return (), {"images": saved}


def _filled(prefix: str, size: tuple[int, int]) -> str:
    now = datetime.now(UTC)
    values = {
        "width": f"{size[0]}",
        "height": f"{size[1]}",
        "year": f"{now:%Y}",
        "month": f"{now:%m}",
        "day": f"{now:%d}",
    }
    values |= {"hour": f"{now:%H}", "minute": f"{now:%M}", "second": f"{now:%S}"}
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def _save_image(context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return _save(context, inputs, inputs["filename_prefix"], "output")


def _preview_image(context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    letters = "".join(string.ascii_lowercase[byte % 26] for byte in uuid.uuid4().bytes[:5])
    return _save(context, inputs, f"ComfyUI_temp_{letters}", "temp")


def _fail(_context: Context, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], None]:
    raise RuntimeError(inputs["message"])


def _int(default: int, low: int, high: int, step: int = 1) -> Input:
    return Input("INT", {"default": default, "min": low, "max": high, "step": step})


def _float(default: float, low: float, high: float, step: float = 0.01) -> Input:
    return Input("FLOAT", {"default": default, "min": low, "max": high, "step": step})


_TEXT = Input("STRING", {"multiline": True, "dynamicPrompts": True})
_HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}

NODE_TYPES: dict[str, NodeType] = {
    "CheckpointLoaderSimple": NodeType(
        inputs={"ckpt_name": Input(catalog.CHECKPOINTS)},
        outputs=("MODEL", "CLIP", "VAE"),
        run=lambda _context, inputs: ((inputs["ckpt_name"],) * 3, None),
        category="loaders",
        display_name="Load Checkpoint",
    ),
    "LoraLoader": NodeType(
        inputs={
            "model": Input("MODEL"),
            "clip": Input("CLIP"),
            "lora_name": Input(catalog.LORAS),
            "strength_model": _float(1.0, -100.0, 100.0),
            "strength_clip": _float(1.0, -100.0, 100.0),
        },
        outputs=("MODEL", "CLIP"),
        run=lambda _context, inputs: ((inputs["model"], inputs["clip"]), None),
        category="loaders",
        display_name="Load LoRA",
    ),
    "CLIPTextEncode": NodeType(
        inputs={"text": _TEXT, "clip": Input("CLIP")},
        outputs=("CONDITIONING",),
        run=lambda _context, inputs: ((inputs["text"],), None),
        category="conditioning",
        display_name="CLIP Text Encode (Prompt)",
    ),
    "CLIPSetLastLayer": NodeType(
        inputs={"clip": Input("CLIP"), "stop_at_clip_layer": _int(-1, -24, -1)},
        outputs=("CLIP",),
        run=lambda _context, inputs: ((inputs["clip"],), None),
        category="conditioning",
        display_name="CLIP Set Last Layer",
    ),
    "EmptyLatentImage": NodeType(
        inputs={
            "width": _int(512, 16, MAX_RESOLUTION, 8),
            "height": _int(512, 16, MAX_RESOLUTION, 8),
            "batch_size": _int(1, 1, 4096),
        },
        outputs=("LATENT",),
        run=_empty_latent,
        category="latent",
        display_name="Empty Latent Image",
    ),
    "KSampler": NodeType(
        inputs={
            "model": Input("MODEL"),
            "seed": _int(0, 0, SEED_MAX),
            "steps": _int(20, 1, 10000),
            "cfg": _float(8.0, 0.0, 100.0, 0.1),
            "sampler_name": Input(catalog.COMFYUI_SAMPLERS),
            "scheduler": Input(catalog.COMFYUI_SCHEDULERS),
            "positive": Input("CONDITIONING"),
            "negative": Input("CONDITIONING"),
            "latent_image": Input("LATENT"),
            "denoise": _float(1.0, 0.0, 1.0),
        },
        outputs=("LATENT",),
        run=_ksampler,
        category="sampling",
        display_name="KSampler",
    ),
    "VAEDecode": NodeType(
        inputs={"samples": Input("LATENT"), "vae": Input("VAE")},
        outputs=("IMAGE",),
        run=_vae_decode,
        category="latent",
        display_name="VAE Decode",
    ),
    "VAEEncode": NodeType(
        inputs={"pixels": Input("IMAGE"), "vae": Input("VAE")},
        outputs=("LATENT",),
        run=_vae_encode,
        category="latent",
        display_name="VAE Encode",
    ),
    "LoadImage": NodeType(
        inputs={"image": Input(Folders.images, {"image_upload": True})},
        outputs=("IMAGE", "MASK"),
        run=_load_image,
        category="image",
        display_name="Load Image",
        changed=_image_hash,
        checks={"image": _missing_image},
    ),
    "ImageScale": NodeType(
        inputs={
            "image": Input("IMAGE"),
            "upscale_method": Input(("nearest-exact", "bilinear", "area", "bicubic", "lanczos")),
            "width": _int(512, 0, MAX_RESOLUTION),
            "height": _int(512, 0, MAX_RESOLUTION),
            "crop": Input(("disabled", "center")),
        },
        outputs=("IMAGE",),
        run=_image_scale,
        category="image/upscaling",
        display_name="Upscale Image",
    ),
    "SaveImage": NodeType(
        inputs={"images": Input("IMAGE"), "filename_prefix": Input("STRING", {"default": "ComfyUI"})},
        outputs=(),
        run=_save_image,
        category="image",
        display_name="Save Image",
        hidden=_HIDDEN,
        is_output=True,
    ),
    "PreviewImage": NodeType(
        inputs={"images": Input("IMAGE")},
        outputs=(),
        run=_preview_image,
        category="image",
        display_name="Preview Image",
        hidden=_HIDDEN,
        is_output=True,
    ),
    "DemoFail": NodeType(
        inputs={"images": Input("IMAGE"), "message": Input("STRING", {"default": "DemoFail fails"})},
        outputs=("IMAGE",),
        run=_fail,
        category="demo",
        display_name="Fail (demo runtime)",
    ),
}


def node_info(name: str, folders: Folders) -> dict[str, Any]:
    """Return what /object_info says of a node type."""
    node = NODE_TYPES[name]
    inputs: dict[str, Any] = {
        "required": {key: [spec.type(folders), dict(spec.options)] for key, spec in node.inputs.items()}
    }
    if node.hidden:
        inputs["hidden"] = dict(node.hidden)
    return {
        "input": inputs,
        "input_order": {section: list(names) for section, names in inputs.items()},
        "is_input_list": False,
        "output": list(node.outputs),
        "output_is_list": [False] * len(node.outputs),
        "output_name": list(node.outputs),
        "name": name,
        "display_name": node.display_name,
        "description": "",
        "python_module": "nodes",
        "category": node.category,
        "output_node": node.is_output,
        "search_aliases": [],
    }
