"""Turns requests into pictures: the sampler's steps with a callback, interruption, previews, notes, PNG encoding.

What both engines call, and all that they know of the model. `generate` blocks, so it is called from a thread.
"""

import io
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from darkroom_demo.diffusion import layout, model, words
from darkroom_demo.diffusion.denoiser import SIDE
from darkroom_demo.diffusion.noise import Noise
from darkroom_demo.diffusion.samplers import SAMPLERS
from darkroom_demo.diffusion.things import THINGS
from darkroom_demo.diffusion.words import Wanted
from darkroom_demo.notes import NOTE

Array: TypeAlias = NDArray[np.float32]
Preview: TypeAlias = Callable[[], Image.Image]
StepCallback: TypeAlias = Callable[[int, Preview], None]

SIZE_LIMIT = 2048  # pixels, width and height
BATCH_LIMIT = 16 * SIZE_LIMIT**2  # pixels, of all pictures of a batch
#: Guidance decides what is seen while there is more noise than this; below, it would only overdraw what is there
#: (Kynkäänniemi et al. 2024, arXiv 2404.07724).
_GUIDED_ABOVE = 1.0
#: Of backdrops that no word names each colour's least share: they are pale, as most were that the model learnt from.
_PALE_FROM = 0.8
#: How often a run that is held looks whether it still is.
_HELD_LOOK_SECONDS = 0.01

logger = logging.getLogger(__name__)


class OutOfMemoryError(Exception):
    """The picture is larger than this runtime draws; engines on a small GPU fail alike."""


@dataclass(frozen=True)
class Picture:
    """One picture that is asked for; sizes in pixels.

    `index` is its place in a batch of one seed, `subseed_strength` the share of the variation. With an initial image
    the sampler starts from that plus noise; a mask limits the change to where it is white.
    """

    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    index: int = 0
    subseed: int = 0
    subseed_strength: float = 0.0
    initial: Image.Image | None = None
    mask: Image.Image | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no picture can come of."""
        _check_number("subseed_strength", self.subseed_strength)


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: a sampler by ComfyUI's name, the noise levels before each step and after the last."""

    sampler: str
    sigmas: Sequence[float]
    cfg_scale: float

    def __post_init__(self) -> None:
        """Raise `ValueError` for what no picture can come of."""
        _check_number("cfg_scale", self.cfg_scale)

    def is_guided(self, sigma: float) -> bool:
        """Return whether guidance has a say at that noise level: above a level, or half of where the run begins."""
        return self.cfg_scale < 1 or sigma > min(_GUIDED_ABOVE, self.sigmas[0] / 2)

    @property
    def steps(self) -> int:
        """Return how many steps there are."""
        return len(self.sigmas) - 1


@dataclass
class Tempo:
    """How fast an engine's runs go through their steps. It may be changed while they do."""

    #: At least; a step takes as long as the model does.
    seconds_per_step: float = 0.0
    #: While it is set, no run goes on after its first step.
    held: Event = field(default_factory=Event)


@dataclass(frozen=True)
class Pace:
    """How a run goes through its steps: at its engine's tempo, until it is through or the event ends it early."""

    tempo: Tempo
    interrupted: Event

    def ends_before(self, number: int, took: float) -> bool:
        """Wait until that step, the first is 1, may end, which `took` seconds; True when the run is to end before."""
        while number > 1 and self.tempo.held.is_set():
            if self.interrupted.wait(_HELD_LOOK_SECONDS):
                return True
        return self.interrupted.wait(max(self.tempo.seconds_per_step - took, 0))


def generate(pictures: Sequence[Picture], sampling: Sampling, pace: Pace, on_step: StepCallback) -> list[Image.Image]:
    """Draw a batch of pictures.

    `on_step(number, preview)` is called after each step, the first is 1; `preview()` draws the first picture as it is
    expected then. When the pace's event is set, the run ends between two steps with the pictures as they are expected
    then; an exception from the callback ends it too. A picture whose prompt could not be drawn wholly has a `NOTE` in
    its `info`. Raises `OutOfMemoryError` above `SIZE_LIMIT` and `BATCH_LIMIT`, `ValueError` for no picture at all.
    """
    if not pictures:
        raise ValueError("batch_size has to be 1 or more")
    if sum(picture.width * picture.height for picture in pictures) > BATCH_LIMIT:
        raise OutOfMemoryError(f"CUDA out of memory. The demo runtime draws up to {BATCH_LIMIT} pixels at once")
    for picture in pictures:
        if max(picture.width, picture.height) > SIZE_LIMIT:
            message = f"CUDA out of memory. The demo runtime draws up to {SIZE_LIMIT}x{SIZE_LIMIT} pixels"
            raise OutOfMemoryError(f"{message}, not {picture.width}x{picture.height}")
    batch = _Batch(pictures, sampling)
    sampler = SAMPLERS[sampling.sampler]
    began = time.monotonic()
    for number, _ in enumerate(sampler(batch.expect, batch.start(), sampling.sigmas, batch.fresh), 1):
        if pace.ends_before(number, time.monotonic() - began):
            break
        began = time.monotonic()
        on_step(number, batch.preview())
        if pace.interrupted.is_set():
            break
    # What is expected is what the last step came to; of a run that ended before, what it had without the noise.
    return batch.pictures()


def png(image: Image.Image, texts: Mapping[str, str], compress_level: int = 4) -> bytes:
    """Return the image as PNG with the text chunks, one that says where it is from, and its note if it has one."""
    info = PngInfo()
    source = {"Darkroom": "demo runtime: drawn by a small diffusion model"}
    note = {NOTE: image.info[NOTE]} if NOTE in image.info else {}
    for key, value in {**texts, **source, **note}.items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info, compress_level=compress_level)
    return buffer.getvalue()


class _Batch:
    """Pictures that are drawn together: the network sees the tiles of all of them at once."""

    def __init__(self, pictures: Sequence[Picture], sampling: Sampling) -> None:
        self.sampling = sampling
        self.model = model.load()
        self.canvases = [_Canvas(picture) for picture in pictures]
        for said in dict.fromkeys(said for canvas in self.canvases for said in canvas.said):
            logger.info("%s", said)
        backdrops = np.array([canvas.backdrop for canvas in self.canvases for _ in canvas.places], np.float32)
        wanted = [of_tile for canvas in self.canvases for of_tile in canvas.wanted]
        unwanted = [canvas.unwanted for canvas in self.canvases for _ in canvas.places]
        self.wanted = self.model.condition(wanted, backdrops)
        self.unwanted = self.model.condition(unwanted, backdrops)
        self.initial = np.concatenate([canvas.initial for canvas in self.canvases])
        self.mask = np.concatenate([canvas.mask for canvas in self.canvases])
        #: The clean pictures as they were expected last.
        self.expected = self.initial

    def start(self) -> Array:
        noise = np.concatenate([canvas.start for canvas in self.canvases])
        return self.initial + noise * np.float32(self.sampling.sigmas[0])

    def fresh(self) -> Array:
        return np.concatenate([canvas.noise.draw(*canvas.shape) for canvas in self.canvases])

    def expect(self, noisy: Array, sigma: float) -> Array:
        scale = self.sampling.cfg_scale if self.sampling.is_guided(sigma) else 1.0
        drawn = self.model.clean(noisy, sigma, self.wanted, self.unwanted, scale)
        self.expected = self.initial + (drawn - self.initial) * self.mask
        return self.expected

    def pictures(self) -> list[Image.Image]:
        return [canvas.picture(tiles) for canvas, tiles in zip(self.canvases, self._of_each(), strict=True)]

    def preview(self) -> Preview:
        return partial(self.canvases[0].picture, self._of_each()[0])

    def _of_each(self) -> list[Array]:
        ends = np.cumsum([len(canvas.places) for canvas in self.canvases])
        return np.split(self.expected, ends[:-1])


class _Canvas:
    """One picture: what is wanted where, what it starts from, what is behind."""

    def __init__(self, asked: Picture) -> None:
        read, unwanted = words.read(asked.prompt), words.read(asked.negative_prompt)
        things = read.things or (_instead(asked),)
        self.note = _note(read, things)
        self.said = [self.note] if self.note else []
        if nothing := [*unwanted.unknown, *unwanted.left_out]:
            self.said.append(f"left out of the negative prompt: {', '.join(nothing)}")
        self.wanted = [[each] for each in things]
        self.unwanted = unwanted.things
        self.places = layout.boxes(len(self.wanted), asked.width, asked.height)
        self.shape = (len(self.places), SIDE, SIDE, 3)
        self.noise = Noise(asked.seed, asked.index)
        self.start = self._start(asked)
        # Of noise of its own, so that naming a backdrop changes nothing else.
        red, green, blue = Noise(asked.seed, asked.index, purpose=1).shares(3)
        pale = (_pale(red), _pale(green), _pale(blue))
        self.backdrop: tuple[float, float, float] = read.backdrop or pale
        size = (asked.width, asked.height)
        self.behind = Image.new("RGB", size, tuple(round(255 * share) for share in self.backdrop))
        self.initial: Array = np.zeros(self.shape, np.float32)
        self.mask: Array = np.ones(self.shape, np.float32)
        self.kept: Image.Image | None = None
        if asked.initial is not None:
            self.behind = _opaque(asked.initial).resize(size, Image.Resampling.LANCZOS)
            self.initial = layout.tiles(self.behind, self.places)
            # The network is told of the backdrop that is there.
            self.backdrop = read.backdrop or layout.border(self.initial)
        if asked.mask is not None:
            self.kept = ImageOps.invert(_mask(asked.mask).resize(size))
            self.mask = (1 - layout.tiles(self.kept.convert("RGB"), self.places)) * np.float32(0.5)

    def _start(self, asked: Picture) -> Array:
        own = self.noise.draw(*self.shape)
        if asked.subseed_strength <= 0:
            return own
        return _between(own, Noise(asked.subseed, asked.index).draw(*self.shape), min(asked.subseed_strength, 1.0))

    def picture(self, tiles: Array) -> Image.Image:
        drawn = layout.compose(tiles, self.places, self.behind)
        if self.kept is not None:
            drawn.paste(self.behind, mask=self.kept)
        if self.note:
            drawn.info[NOTE] = self.note
        return drawn


def _instead(asked: Picture) -> Wanted:
    """Return a thing of the seed's choice: it can be told apart, unlike what the model draws unasked."""
    [share] = Noise(asked.seed, asked.index, purpose=2).shares(1)
    return Wanted(list(THINGS)[int(share * (len(THINGS) - 1))])


def _note(read: words.Scene, drawn: Sequence[Wanted]) -> str:
    """Return what has to be said of a prompt: nothing, if all of it could be drawn."""
    said = [f"unknown: {', '.join(read.unknown)}"] if read.unknown else []
    if read.left_out:
        said.append(f"left out: {', '.join(read.left_out)}")
    if not read.things:
        said.insert(0, f"the prompt names nothing that this model knows; drawn instead: {drawn[0].thing}")
    return "; ".join(said)


def _check_number(name: str, value: object) -> None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} has to be a number, not {value}")


def _pale(share: float) -> float:
    return _PALE_FROM + (1 - _PALE_FROM) * share


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image without what its file said of it; what is transparent is white, as in the web UI."""
    behind = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")


def _mask(image: Image.Image) -> Image.Image:
    """Return a mask's lightness, or its alpha where it has any (modules/processing.py, create_binary_mask)."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        return image.getchannel("A")
    return image.convert("L")


def _between(first: Array, second: Array, share: float) -> Array:
    """Return the noise between two noises, on the great circle that joins them, so that it stays as strong."""
    cosine = float((first * second).sum() / np.sqrt((first * first).sum() * (second * second).sum()))
    angle = math.acos(min(cosine, 1 - 1e-9))  # the same noise is at some angle to itself too
    weights = math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
    return first * np.float32(weights[0]) + second * np.float32(weights[1])
