"""Places the things of a prompt in a picture: a square tile each, side by side, on one backdrop.

Each tile is drawn under its own thing alone, as regional prompting does. Pure.
"""

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom_demo.diffusion.denoiser import SIDE

Array: TypeAlias = NDArray[np.float32]
#: Left, top, right, bottom, in pixels.
Box: TypeAlias = tuple[int, int, int, int]

#: Within so many of a tile's pixels from its border it passes into what is behind it.
_FEATHER = 4


def boxes(count: int, width: int, height: int) -> list[Box]:
    """Return where so many square tiles go: as large as they can be, in as few rows as that allows, centred."""
    columns, side = max(
        ((columns, min(width // columns, height // -(-count // columns))) for columns in range(count, 0, -1)),
        key=lambda option: option[1],
    )
    rows = -(-count // columns)
    placed: list[Box] = []
    for index in range(count):
        row, column = divmod(index, columns)
        in_row = min(columns, count - row * columns)
        left = (width - side * in_row) // 2 + side * column
        top = (height - side * rows) // 2 + side * row
        placed.append((left, top, left + side, top + side))
    return placed


def tiles(image: Image.Image, places: Sequence[Box]) -> Array:
    """Return what the network sees of an image at those places: (n, SIDE, SIDE, 3), from -1 to 1."""
    seen = [image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box) for box in places]
    return np.stack([np.asarray(tile, np.float32) for tile in seen]) / np.float32(127.5) - 1


def border(seen: Array) -> tuple[float, float, float]:
    """Return the mean colour of tiles' outermost pixels: red, green and blue from 0 to 1."""
    edges = (seen[:, 0], seen[:, -1], seen[:, :, 0], seen[:, :, -1])
    red, green, blue = (np.mean([edge.mean(axis=(0, 1)) for edge in edges], axis=0) + 1) / 2
    return float(red), float(green), float(blue)


def compose(drawn: Array, places: Sequence[Box], behind: Image.Image) -> Image.Image:
    """Return the picture: tiles as the network draws them, enlarged, at their places before what is behind."""
    picture = behind.copy()
    values = np.clip(np.rint((drawn + 1) * np.float32(127.5)), 0, 255).astype(np.uint8)
    for tile, box in zip(values, places, strict=True):
        size = (box[2] - box[0], box[3] - box[1])
        enlarged = Image.fromarray(tile).resize(size, Image.Resampling.LANCZOS)
        picture.paste(enlarged, box[:2], _feathered().resize(size, Image.Resampling.BICUBIC))
    return picture


@cache
def _feathered() -> Image.Image:
    across = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]) / _FEATHER
    share = np.clip(np.minimum.outer(across, across), 0, 1)
    return Image.fromarray((255 * share).astype(np.uint8))
