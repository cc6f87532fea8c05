"""Paints a landscape from a prompt and a seed: sky, sun or moon, clouds, hills or peaks, a lake, trees.

Pure: the same arguments give the same pixels, and nothing is read or written. Colours and motifs come from words of the
prompt; whatever the prompt leaves open comes from the seed.
"""

import hashlib
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFilter

Colour: TypeAlias = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (206, 58, 52),
    "crimson": (176, 30, 62),
    "orange": (240, 138, 52),
    "amber": (244, 176, 64),
    "gold": (236, 190, 84),
    "golden": (236, 190, 84),
    "yellow": (246, 214, 92),
    "green": (84, 158, 92),
    "emerald": (38, 142, 104),
    "teal": (36, 136, 142),
    "turquoise": (64, 186, 184),
    "cyan": (84, 200, 216),
    "blue": (62, 116, 204),
    "azure": (88, 164, 230),
    "indigo": (74, 72, 168),
    "purple": (132, 82, 176),
    "violet": (150, 98, 204),
    "lavender": (184, 160, 220),
    "magenta": (204, 66, 150),
    "pink": (240, 150, 176),
    "brown": (134, 96, 66),
    "white": (238, 238, 234),
    "grey": (134, 140, 148),
    "gray": (134, 140, 148),
    "black": (34, 36, 44),
}
MOTIFS = {
    "night": {"night", "midnight", "moon", "moonlight", "moonlit", "star", "stars", "starry", "galaxy", "dark"},
    "peaks": {"mountain", "mountains", "peak", "peaks", "alps", "alpine", "cliff", "cliffs", "rock", "rocks"},
    "water": {"lake", "sea", "ocean", "water", "river", "coast", "beach", "bay", "fjord", "harbour", "harbor"},
    "trees": {"forest", "forests", "tree", "trees", "wood", "woods", "pine", "pines", "cabin", "jungle"},
    "clouds": {"cloud", "clouds", "cloudy", "storm", "stormy", "rain", "mist", "misty", "fog", "foggy"},
}
# Sky from zenith to horizon, then the darkest foreground.
DAY_PALETTES: Sequence[tuple[Colour, Colour, Colour, Colour]] = (
    ((64, 122, 186), (150, 196, 222), (252, 228, 190), (26, 54, 62)),  # clear morning
    ((58, 62, 124), (206, 110, 130), (255, 196, 130), (40, 26, 56)),  # sunset
    ((30, 92, 118), (98, 176, 170), (246, 236, 190), (16, 48, 50)),  # sea green
    ((96, 84, 152), (226, 156, 184), (255, 224, 198), (44, 34, 74)),  # rose
    ((74, 104, 140), (174, 186, 190), (244, 220, 184), (34, 42, 46)),  # hazy
    ((150, 74, 70), (238, 150, 88), (255, 222, 142), (60, 26, 34)),  # ember
)
NIGHT_PALETTES: Sequence[tuple[Colour, Colour, Colour, Colour]] = (
    ((8, 12, 38), (28, 42, 92), (96, 104, 150), (6, 8, 20)),
    ((10, 16, 30), (22, 58, 84), (88, 140, 146), (4, 12, 18)),
    ((22, 10, 44), (66, 34, 100), (150, 94, 142), (12, 6, 24)),
)


@dataclass(frozen=True)
class Scene:
    """What is painted: colours from zenith to foreground, and which motifs."""

    zenith: Colour
    middle: Colour
    horizon: Colour
    ground: Colour
    motifs: frozenset[str]


def paint(
    prompt: str, negative_prompt: str, seed: int, size: tuple[int, int], *, saturation: float = 1.0
) -> Image.Image:
    """Return the RGB picture of that prompt and seed, `size` = (width, height) in pixels."""
    digest = hashlib.sha256(f"{prompt}\0{negative_prompt}\0{seed}".encode(errors="replace")).digest()
    rng = random.Random(digest)  # noqa: S311 - repeatable, not secret
    scene = _scene(prompt, negative_prompt, rng)
    horizon = round(size[1] * rng.uniform(0.5, 0.64))
    picture = _gradient([scene.zenith, scene.middle, scene.horizon, scene.horizon], size)
    if "night" in scene.motifs:
        _stars(picture, horizon, rng)
    _sun(picture, scene, horizon, rng)
    if "clouds" in scene.motifs or rng.random() < 0.6:
        _clouds(picture, scene, horizon, rng)
    _ridges(picture, scene, horizon, rng)
    if "water" in scene.motifs:
        _water(picture, scene, rng.uniform(0.74, 0.8), rng)
    _foreground(picture, scene, rng)
    if saturation != 1.0:
        picture = Image.blend(picture.convert("L").convert("RGB"), picture, saturation)
    return picture


def _scene(prompt: str, negative_prompt: str, rng: random.Random) -> Scene:
    words = re.findall(r"[a-z]+", prompt.lower())
    unwanted = set(re.findall(r"[a-z]+", negative_prompt.lower()))
    motifs = {motif for motif, names in MOTIFS.items() if names.intersection(words) and not names & unwanted}
    motifs |= {motif for motif in ("peaks", "water", "trees") if rng.random() < 0.3 and not MOTIFS[motif] & unwanted}
    zenith, middle, horizon, ground = rng.choice(NIGHT_PALETTES if "night" in motifs else DAY_PALETTES)
    named = [COLOURS[word] for word in dict.fromkeys(words) if word in COLOURS and word not in unwanted]
    if named:
        first, last = named[0], named[-1]
        zenith = _mix(zenith, _mix(first, (0, 0, 0), 0.3), 0.75)
        middle = _mix(middle, first, 0.7)
        horizon = _mix(horizon, _mix(last, (255, 255, 255), 0.35), 0.7)
        ground = _mix(ground, _mix(last, (0, 0, 0), 0.75), 0.6)
    return Scene(zenith, middle, horizon, ground, frozenset(motifs))


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    mixed = [round(a + (b - a) * share) for a, b in zip(first, second, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


def _gradient(colours: Sequence[Colour], size: tuple[int, int]) -> Image.Image:
    """Return a smooth vertical gradient through the colours, top to bottom."""
    column = Image.frombytes("RGB", (1, len(colours)), bytes(value for colour in colours for value in colour))
    return column.resize(size, Image.Resampling.BICUBIC)


def _mask(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw, float], None]) -> Image.Image:
    """Return an anti-aliased mask: `draw` gets a canvas and the scale to multiply its coordinates with."""
    mask = Image.new("L", (size[0] * 2, size[1] * 2))
    draw(ImageDraw.Draw(mask), 2.0)
    return mask.reduce(2)


def _stars(picture: Image.Image, horizon: int, rng: random.Random) -> None:
    draw = ImageDraw.Draw(picture)
    for _ in range(90):
        x, y = rng.randrange(picture.width), int(horizon * rng.random() ** 1.5)
        glow = rng.randint(120, 255)
        draw.point((x, y), (glow, glow, 255))
        if rng.random() < 0.15:
            draw.point(((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)), (glow // 2, glow // 2, glow // 2 + 40))


def _sun(picture: Image.Image, scene: Scene, horizon: int, rng: random.Random) -> None:
    night = "night" in scene.motifs
    unit = min(picture.size)
    radius = unit * rng.uniform(0.05, 0.09)
    x = picture.width * rng.uniform(0.2, 0.8)
    y = horizon * (rng.uniform(0.2, 0.5) if night else rng.uniform(0.35, 0.85))
    light = (232, 236, 248) if night else _mix((255, 244, 214), scene.horizon, 0.25)
    reach = round(radius * (4 if night else 7))
    # radial_gradient reaches 181 at the middle of each side: the glow is to be gone there.
    halo = Image.radial_gradient("L").point(lambda value: int(max(0.0, 1 - value / 181) ** 1.8 * 190))
    glow = Image.new("L", picture.size)
    glow.paste(halo.resize((reach * 2, reach * 2), Image.Resampling.BICUBIC), (round(x) - reach, round(y) - reach))
    picture.paste(light, (0, 0), glow)
    box = (x - radius, y - radius, x + radius, y + radius)
    disc = _mask(picture.size, lambda draw, scale: draw.ellipse([edge * scale for edge in box], fill=255))
    picture.paste(light, (0, 0), disc)


def _clouds(picture: Image.Image, scene: Scene, horizon: int, rng: random.Random) -> None:
    small = (max(picture.width // 4, 1), max(picture.height // 4, 1))
    mask = Image.new("L", small)
    draw = ImageDraw.Draw(mask)
    for _ in range(rng.randint(3, 6)):
        x, y = small[0] * rng.random(), horizon / 4 * rng.uniform(0.1, 0.85)
        for _ in range(rng.randint(5, 9)):
            half = small[0] * rng.uniform(0.05, 0.16)
            left, top = x + small[0] * rng.gauss(0, 0.09), y + half * rng.gauss(0, 0.1)
            draw.ellipse((left - half, top - half * 0.11, left + half, top + half * 0.11), fill=rng.randint(70, 150))
    mask = mask.filter(ImageFilter.GaussianBlur(max(small) / 90)).resize(picture.size, Image.Resampling.BICUBIC)
    picture.paste(_mix(scene.horizon, (255, 255, 255), 0.1 if "night" in scene.motifs else 0.55), (0, 0), mask)


def _ridge(width: int, rng: random.Random, roughness: float) -> list[float]:
    """Return heights in 0..1 of a ridge line, one per column: midpoint displacement, smooth where roughness is low."""
    heights = [rng.random(), rng.random()]
    amplitude = 0.5
    while len(heights) < 65:
        finer = [heights[0]]
        for left, right in pairwise(heights):
            finer += [(left + right) / 2 + rng.uniform(-amplitude, amplitude), right]
        heights, amplitude = finer, amplitude * roughness
    low, high = min(heights), max(heights)
    line = []
    for x in range(width + 1):
        position = x / width * 64
        at = min(int(position), 63)
        share = position - at
        if roughness < 0.5:
            share = (1 - math.cos(share * math.pi)) / 2
        line.append((heights[at] + (heights[at + 1] - heights[at]) * share - low) / (high - low))
    return line


def _ridges(picture: Image.Image, scene: Scene, horizon: int, rng: random.Random) -> None:
    """Paint hills from far and pale to near and dark, each with mist at its foot."""
    width, height = picture.size
    layers = 5
    for layer in range(layers):
        near = layer / (layers - 1)
        roughness = (0.56 - 0.1 * near) if "peaks" in scene.motifs else 0.36 + 0.03 * layer
        rise = height * (0.24 - 0.1 * near if "peaks" in scene.motifs else 0.1 + 0.02 * near)
        base = horizon + (height - horizon) * 0.8 * near**1.3 + height * 0.02
        line = [base - rise * value for value in _ridge(width, rng, roughness)]
        top = max(0, int(min(line)) - 1)
        colour = _mix(_mix(scene.middle, scene.horizon, 0.35), scene.ground, 0.16 + 0.74 * near)
        mist = _mix(colour, scene.horizon, 0.55 * (1 - near) + 0.06)
        band = (width, height - top)
        mask = _mask(band, _below(line, top))
        reach = max(round(rise * 1.7), 2)
        shade = Image.new("RGB", band, mist)
        shade.paste(_gradient([colour, mist], (width, reach)), (0, 0))
        picture.paste(shade, (0, top), mask)


def _below(line: Sequence[float], top: int) -> Callable[[ImageDraw.ImageDraw, float], None]:
    """Return a drawer of the area under a line whose heights are in pixels of the whole picture."""

    def draw(canvas: ImageDraw.ImageDraw, scale: float) -> None:
        outline = [(x * scale, (y - top) * scale) for x, y in enumerate(line)]
        bottom = canvas.im.size[1]
        canvas.polygon([(0.0, bottom), *outline, (len(line) * scale, bottom)], fill=255)

    return draw


def _water(picture: Image.Image, scene: Scene, share: float, rng: random.Random) -> None:
    """Turn the bottom into a lake that mirrors what is above its shore."""
    width, height = picture.size
    shore = round(height * share)
    depth = height - shore
    if depth < 2:
        return
    mirrored = picture.crop((0, max(shore - depth * 2, 0), width, shore)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirrored = mirrored.resize((width, depth), Image.Resampling.BILINEAR)
    tint = _gradient([_mix(scene.horizon, scene.middle, 0.5), _mix(scene.zenith, scene.ground, 0.45)], (width, depth))
    lake = Image.blend(mirrored, tint, 0.42)
    draw = ImageDraw.Draw(lake)
    bright = _mix(scene.horizon, (255, 255, 255), 0.3)
    for _ in range(depth // 2):
        y = int(depth * rng.random() ** 1.4)
        length = width * rng.uniform(0.01, 0.07) * (0.4 + y / depth)
        x = width * rng.random()
        draw.line((x, y, x + length, y), fill=_mix(bright, scene.middle, rng.uniform(0.35, 0.9)))
    picture.paste(lake, (0, shore))


def _foreground(picture: Image.Image, scene: Scene, rng: random.Random) -> None:
    """Paint the near bank, with pines on it where there are trees."""
    width, height = picture.size
    line = [height * (0.985 - 0.07 * value) for value in _ridge(width, rng, 0.38)]
    pines: list[tuple[float, float, float]] = []
    if "trees" in scene.motifs:
        for _ in range(rng.randint(16, 26)):
            # Pines stand towards the sides, so that the middle stays open.
            at = rng.betavariate(0.45, 0.45)
            foot = line[min(int(at * width), width)] + height * 0.02
            pines.append((at * width, foot, height * rng.uniform(0.1, 0.24)))

    def draw(canvas: ImageDraw.ImageDraw, scale: float) -> None:
        _below(line, 0)(canvas, scale)
        for x, foot, tall in pines:
            _pine(canvas, x * scale, foot * scale, tall * scale)

    shade = _gradient([_mix(scene.ground, scene.middle, 0.06), _mix(scene.ground, (0, 0, 0), 0.35)], picture.size)
    picture.paste(shade, (0, 0), _mask(picture.size, draw))


def _pine(canvas: ImageDraw.ImageDraw, x: float, foot: float, tall: float) -> None:
    tiers = 5
    for tier in range(tiers):
        top = foot - tall + tall * 0.17 * tier
        spread = tall * (0.05 + 0.035 * tier)
        canvas.polygon([(x, top), (x - spread, top + tall * 0.3), (x + spread, top + tall * 0.3)], fill=255)
