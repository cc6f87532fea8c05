"""The AUTOMATIC1111 API's requests and texts: fields with their defaults, pydantic's 422, infotext and the `info` JSON.

Names, defaults and messages are those of the web UI 1.10 (modules/api/models.py,
modules/processing.py, modules/infotext_utils.py) and of the pydantic 1 that it pins.
"""

import base64
import io
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from PIL import Image

from darkroom_demo.catalog import WEBUI_SAMPLERS, WEBUI_SCHEDULERS

Field: TypeAlias = tuple[type, Any]  # the type, and the default; REQUIRED where there is none
REQUIRED = object()
VERSION = "darkroom-demo-0.1.0"

COMMON: dict[str, Field] = {
    "prompt": (str, ""),
    "negative_prompt": (str, ""),
    "styles": (list, None),
    "seed": (int, -1),
    "subseed": (int, -1),
    "subseed_strength": (float, 0),
    "seed_resize_from_h": (int, -1),
    "seed_resize_from_w": (int, -1),
    "sampler_name": (str, None),
    "scheduler": (str, None),
    "batch_size": (int, 1),
    "n_iter": (int, 1),
    "steps": (int, 50),
    "cfg_scale": (float, 7.0),
    "width": (int, 512),
    "height": (int, 512),
    "restore_faces": (bool, None),
    "tiling": (bool, None),
    "do_not_save_samples": (bool, False),
    "do_not_save_grid": (bool, False),
    "eta": (float, None),
    "s_min_uncond": (float, None),
    "s_churn": (float, None),
    "s_tmax": (float, None),
    "s_tmin": (float, None),
    "s_noise": (float, None),
    "override_settings": (dict, None),
    "override_settings_restore_afterwards": (bool, True),
    "refiner_checkpoint": (str, None),
    "refiner_switch_at": (float, None),
    "disable_extra_networks": (bool, False),
    "comments": (dict, None),
    "sampler_index": (str, "Euler"),
    "script_name": (str, None),
    "script_args": (list, []),
    "send_images": (bool, True),
    "save_images": (bool, False),
    "alwayson_scripts": (dict, {}),
    "force_task_id": (str, None),
    "infotext": (str, None),
}
TXT2IMG: dict[str, Field] = COMMON | {
    "denoising_strength": (float, 0.75),
    "enable_hr": (bool, False),
    "firstphase_width": (int, 0),
    "firstphase_height": (int, 0),
    "hr_scale": (float, 2.0),
    "hr_upscaler": (str, None),
    "hr_second_pass_steps": (int, 0),
    "hr_resize_x": (int, 0),
    "hr_resize_y": (int, 0),
    "hr_checkpoint_name": (str, None),
    "hr_sampler_name": (str, None),
    "hr_scheduler": (str, None),
    "hr_prompt": (str, ""),
    "hr_negative_prompt": (str, ""),
}
IMG2IMG: dict[str, Field] = COMMON | {
    "init_images": (list, None),
    "denoising_strength": (float, 0.75),
    "resize_mode": (int, 0),
    "image_cfg_scale": (float, None),
    "mask": (str, None),
    "mask_blur_x": (int, 4),
    "mask_blur_y": (int, 4),
    "mask_blur": (int, None),
    "mask_round": (bool, True),
    "inpainting_fill": (int, 0),
    "inpaint_full_res": (bool, True),
    "inpaint_full_res_padding": (int, 0),
    "inpainting_mask_invert": (int, 0),
    "initial_noise_multiplier": (float, None),
    "include_init_images": (bool, False),
}
EXTRAS: dict[str, Field] = {
    "resize_mode": (int, 0),
    "show_extras_results": (bool, True),
    "gfpgan_visibility": (float, 0),
    "codeformer_visibility": (float, 0),
    "codeformer_weight": (float, 0),
    "upscaling_resize": (float, 2),
    "upscaling_resize_w": (int, 512),
    "upscaling_resize_h": (int, 512),
    "upscaling_crop": (bool, True),
    "upscaler_1": (str, "None"),
    "upscaler_2": (str, "None"),
    "extras_upscaler_2_visibility": (float, 0),
    "upscale_first": (bool, False),
}
EXTRAS_SINGLE: dict[str, Field] = EXTRAS | {"image": (str, "")}
EXTRAS_BATCH: dict[str, Field] = EXTRAS | {"imageList": (list, REQUIRED)}
PNG_INFO: dict[str, Field] = {"image": (str, REQUIRED)}
INTERROGATE: dict[str, Field] = {"image": (str, ""), "model": (str, "clip")}
PROGRESS: dict[str, Field] = {"id_task": (str, None), "id_live_preview": (int, -1), "live_preview": (bool, True)}

MESSAGES = {
    str: ("str type expected", "type_error.str"),
    int: ("value is not a valid integer", "type_error.integer"),
    float: ("value is not a valid float", "type_error.float"),
    bool: ("value could not be parsed to a boolean", "type_error.bool"),
    list: ("value is not a valid list", "type_error.list"),
    dict: ("value is not a valid dict", "type_error.dict"),
}


class InvalidRequestError(Exception):
    """The body does not fit the endpoint's model: 422 with pydantic's list of errors."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors)
        self.errors = errors


class ApiError(Exception):
    """FastAPI's HTTPException as the web UI raises it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body. Raises `InvalidRequestError`."""
    try:
        content = json.loads(body)
    except ValueError as error:
        where = error.pos if isinstance(error, json.JSONDecodeError) else 0
        raise InvalidRequestError([_problem(["body", where], str(error), "value_error.jsondecode")]) from error
    if not isinstance(content, dict):
        raise InvalidRequestError([_problem(["body"], *MESSAGES[dict])])
    return content


def parse(body: bytes, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the body's fields, converted as pydantic 1 does and with defaults. Raises `InvalidRequestError`."""
    content = parse_object(body)
    values: dict[str, Any] = {}
    problems = []
    for name, (kind, default) in fields.items():
        value = content.get(name, default)
        if value is REQUIRED:
            problems.append(_problem(["body", name], "field required", "value_error.missing"))
            continue
        try:
            values[name] = None if value is None else _convert(value, kind)
        except (TypeError, ValueError, OverflowError):
            problems.append(_problem(["body", name], *MESSAGES[kind]))
    if problems:
        raise InvalidRequestError(problems)
    return values


def _problem(where: list[str | int], message: str, kind: str) -> dict[str, Any]:
    return {"loc": where, "msg": message, "type": kind}


def _convert(value: Any, kind: type) -> Any:
    if kind is bool:
        text = str(value).lower()
        if text not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
            raise ValueError(text)
        return text in {"true", "1", "yes", "on"}
    if kind in (list, dict):
        if not isinstance(value, kind):
            raise TypeError(value)
        return value
    if kind is str and not isinstance(value, str | int | float):
        raise TypeError(value)
    return kind(value)


def decode_image(encoded: Any) -> Image.Image:
    """Return the image of a base64 text or data URL. Raises `ApiError` 500, as the web UI does."""
    if isinstance(encoded, str) and encoded.startswith(("http://", "https://")):
        raise ApiError(500, "Requests not allowed")
    try:
        if encoded.startswith("data:image/"):
            encoded = encoded.split(";")[1].split(",")[1]
        image = Image.open(io.BytesIO(base64.b64decode(encoded)))
        image.load()
    except Exception as error:
        raise ApiError(500, "Invalid encoded image") from error
    return image


def sampler_and_scheduler(name: str, scheduler: str | None) -> tuple[str, str]:
    """Return the sampler's name and the scheduler's label; "DPM++ 2M Karras" means both. Raises `ApiError` 404."""
    labels = WEBUI_SCHEDULERS | {known: known for known in WEBUI_SCHEDULERS.values()}
    label = labels.get(scheduler or "", "Automatic")
    for key, known in WEBUI_SCHEDULERS.items():
        for ending in (f" {known}", f" {key}"):
            if name.endswith(ending):
                name, label = name.removesuffix(ending), known
    if name not in WEBUI_SAMPLERS:
        raise ApiError(404, "Sampler not found")
    return name, label


@dataclass(frozen=True)
class Job:
    """A txt2img or img2img request once its random values are fixed; one seed and subseed for each picture."""

    parameters: Mapping[str, Any]
    sampler: str
    scheduler: str
    checkpoint: str
    seeds: list[int]
    subseeds: list[int]
    width: int
    height: int
    timestamp: str

    def infotext(self, index: int) -> str:
        """Return the text that the web UI puts into the PNG of that picture."""
        values = self.parameters
        strength = values["subseed_strength"] or 0
        details = {
            "Steps": values["steps"],
            "Sampler": self.sampler,
            "Schedule type": self.scheduler,
            "CFG scale": values["cfg_scale"],
            "Seed": self.seeds[index],
            "Size": f"{self.width}x{self.height}",
            "Model": self.checkpoint.rpartition(".")[0],
            "Variation seed": self.subseeds[index] if strength else None,
            "Variation seed strength": strength or None,
            "Denoising strength": values["denoising_strength"] if "init_images" in values else None,
            "Version": VERSION,
        }
        listed = ", ".join(f"{key}: {_quote(value)}" for key, value in details.items() if value is not None)
        negative = f"\nNegative prompt: {values['negative_prompt']}" if values["negative_prompt"] else ""
        return f"{values['prompt']}{negative}\n{listed}".strip()

    def info(self, drawn: int, index_of_first_image: int) -> str:
        """Return the response's `info`, a JSON text; `drawn` pictures were made, a grid may stand before them."""
        values = self.parameters
        infotexts = [self.infotext(index) for index in range(drawn)]
        count = len(self.seeds)
        return json.dumps(
            {
                "prompt": values["prompt"],
                "all_prompts": [values["prompt"]] * count,
                "negative_prompt": values["negative_prompt"],
                "all_negative_prompts": [values["negative_prompt"]] * count,
                "seed": self.seeds[0],
                "all_seeds": self.seeds,
                "subseed": self.subseeds[0],
                "all_subseeds": self.subseeds,
                "subseed_strength": values["subseed_strength"],
                "width": self.width,
                "height": self.height,
                "sampler_name": self.sampler,
                "cfg_scale": values["cfg_scale"],
                "steps": values["steps"],
                "batch_size": values["batch_size"],
                "restore_faces": bool(values["restore_faces"]),
                "face_restoration_model": None,
                "sd_model_name": self.checkpoint.rpartition(".")[0],
                "sd_model_hash": None,
                "sd_vae_name": None,
                "sd_vae_hash": None,
                "seed_resize_from_w": values["seed_resize_from_w"],
                "seed_resize_from_h": values["seed_resize_from_h"],
                "denoising_strength": values["denoising_strength"],
                "extra_generation_params": {},
                "index_of_first_image": index_of_first_image,
                "infotexts": infotexts[:1] * index_of_first_image + infotexts,
                "styles": values["styles"] or [],
                "job_timestamp": self.timestamp,
                "clip_skip": 1,
                "is_using_inpainting_conditioning": False,
                "version": VERSION,
            }
        )


def fixed_seeds(seed: int | None, count: int, *, step: int = 1) -> list[int]:
    """Return a seed for each picture, counted up from the given one; -1 or none is a random one."""
    first = random.randrange(4294967294) if seed in (None, -1) else int(seed or 0)  # noqa: S311 - as the web UI
    return [first + number * step for number in range(count)]


def _quote(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,\n:]", text) else text


def parse_infotext(text: str) -> dict[str, str]:
    """Return the fields of an infotext: Prompt, Negative prompt, and the `Key: value` pairs of its last line."""
    *lines, last = text.strip().split("\n")
    pairs = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    prompt, _, negative = "\n".join(lines).partition("Negative prompt:")
    fields = {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    return fields | {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}
