"""What the model learns from: emoji in many poses, in their own colours and tinted, on plain backdrops.

Reads the emoji's package alone: npm's @lobehub/fluent-emoji-3d, whose files are named by the emoji's code points.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.denoiser import SIDE
from darkroom_demo.diffusion.things import THINGS

#: Where npm puts the emoji: `make train` has it do so.
EMOJI = Path(__file__).with_name("node_modules") / "@lobehub/fluent-emoji-3d/assets"
#: Of red, green and blue in lightness (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)

_COLOUR_ROWS = {colour: row for row, colour in enumerate(COLOURS)}

#: How each emoji is turned and placed: degrees, shares of the picture's side.
TURN = 8.0
SIZES = (0.80, 0.94)
SHIFT = 0.03


@dataclass(frozen=True)
class Poses:
    """Every emoji in many poses.

    `pictures` is (emoji, poses, SIDE, SIDE, 4), bytes; `thing` and `colour` say what each emoji is, the colour one past
    the last where it is the thing's usual; `pivot` is the mean lightness of its pixels, 0 to 1.
    """

    pictures: NDArray[np.uint8]
    thing: NDArray[np.int32]
    colour: NDArray[np.int32]
    pivot: NDArray[np.float32]


def emoji_file(folder: Path, emoji: str) -> Path:
    """Return the file of an emoji in the package's folder of assets. Raises `FileNotFoundError`."""
    points = [f"{ord(character):04x}" for character in emoji]
    plain = [point for point in points if point != "fe0f"]
    for name in ("-".join(points), "-".join(plain), "-".join([*plain, "fe0f"])):
        if (path := folder / f"{name}.webp").is_file():
            return path
    raise FileNotFoundError(f"{folder} has no picture of {emoji}")


def usual_colours() -> list[int]:
    """Return for each thing the row of the colour that it has unasked; one past the last where that has no name."""
    return [
        next((_COLOUR_ROWS[colour] for colour, emoji in thing.colours.items() if emoji == thing.emoji), len(COLOURS))
        for thing in THINGS.values()
    ]


def pose_all(folder: Path, poses: int, seed: int) -> Poses:
    """Draw every emoji in so many poses, the first upright and in the middle."""
    random = np.random.default_rng(seed)
    sources = _sources()
    pictures = np.empty((len(sources), poses, SIDE, SIDE, 4), np.uint8)
    pivots = np.empty(len(sources), np.float32)
    for row, (_, _, emoji) in enumerate(sources):
        with Image.open(emoji_file(folder, emoji)) as image:
            source = image.convert("RGBA")
        pivots[row] = _pivot(source)
        for pose in range(poses):
            pictures[row, pose] = np.asarray(_posed(source, random if pose else None))
    thing = np.array([thing for thing, _, _ in sources], np.int32)
    return Poses(pictures, thing, np.array([colour for _, colour, _ in sources], np.int32), pivots)


def _sources() -> list[tuple[int, int, str]]:
    """Return every emoji there is: row of its thing, row of its colour, emoji."""
    sources: list[tuple[int, int, str]] = []
    for index, (thing, usual) in enumerate(zip(THINGS.values(), usual_colours(), strict=True)):
        sources.append((index, usual, thing.emoji))
        sources += [
            (index, _COLOUR_ROWS[colour], emoji) for colour, emoji in thing.colours.items() if emoji != thing.emoji
        ]
    return sources


def _posed(source: Image.Image, random: np.random.Generator | None) -> Image.Image:
    size, turn, across, down = float(np.mean(SIZES)), 0.0, 0.0, 0.0
    if random is not None:
        size, turn = random.uniform(*SIZES), random.uniform(-TURN, TURN)
        across, down = random.uniform(-SHIFT, SHIFT, 2) * SIDE
    # Four times as large while it is turned, so that edges stay smooth.
    large, side = 4 * SIDE, round(4 * SIDE * size)
    canvas = Image.new("RGBa", (large, large))
    scaled = source.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS)
    canvas.paste(scaled, (round((large - side) / 2 + 4 * across), round((large - side) / 2 + 4 * down)))
    turned = canvas.rotate(turn, Image.Resampling.BICUBIC)
    return turned.resize((SIDE, SIDE), Image.Resampling.BOX).convert("RGBA")


def _pivot(source: Image.Image) -> float:
    pixels = np.asarray(source, np.float32) / 255
    alpha = pixels[..., 3]
    return float((pixels[..., :3] @ np.array(LUMA, np.float32) * alpha).sum() / alpha.sum())
