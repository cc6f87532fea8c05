"""Sizes, grids and upscaling as the web UI does them. Pure."""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from darkroom_demo.catalog import WEBUI_UPSCALERS
from darkroom_demo.drawing import SIZE_LIMIT, OutOfMemoryError

SMALLEST = 64  # pixels, width and height
LARGEST_UPSCALE = 4 * SIZE_LIMIT


def final_size(parameters: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height in pixels, rounded down to whole latents (8 pixels) and with the hires fix applied."""
    width, height = parameters["width"], parameters["height"]
    if parameters.get("enable_hr"):
        scale = parameters["hr_scale"]
        width = parameters["hr_resize_x"] or int(width * scale)
        height = parameters["hr_resize_y"] or int(height * scale)
    if min(width, height) < SMALLEST:
        raise RuntimeError(f"width and height have to be {SMALLEST} to {SIZE_LIMIT}, not {width}x{height}")
    return width // 8 * 8, height // 8 * 8


def upscale(image: Image.Image, values: Mapping[str, Any]) -> Image.Image:
    """Return the image as an extras request wants it. Raises `OutOfMemoryError` above `LARGEST_UPSCALE` pixels."""
    name = values["upscaler_1"]
    if name not in WEBUI_UPSCALERS:
        raise AssertionError(f"could not find upscaler named {name}")
    if name == "None":
        return image
    method = Image.Resampling.NEAREST if name == "Nearest" else Image.Resampling.LANCZOS
    if values["resize_mode"] == 0:
        size = tuple(int(side * values["upscaling_resize"]) for side in image.size)
    else:
        size = (values["upscaling_resize_w"], values["upscaling_resize_h"])
    if max(size) > LARGEST_UPSCALE:
        raise OutOfMemoryError(
            f"CUDA out of memory. The demo runtime scales up to {LARGEST_UPSCALE} pixels, not {size}"
        )
    if values["resize_mode"] == 0:
        return image.resize((size[0], size[1]), method)
    fit = ImageOps.fit if values["upscaling_crop"] else ImageOps.contain
    return fit(image, (size[0], size[1]), method)


def grid(images: list[Image.Image]) -> Image.Image:
    """Return the images side by side in rows, as near to a square as the web UI makes it."""
    rows = round(len(images) ** 0.5)
    columns = -(-len(images) // rows)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, rows * height), "black")
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    sheet.info["parameters"] = images[0].info["parameters"]
    return sheet
