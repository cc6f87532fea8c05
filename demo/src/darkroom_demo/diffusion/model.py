"""The trained model: its weights, what rows of its tables mean, and guidance.

Reads this package's files. From when it is loaded, numpy multiplies on one thread in all of the process.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.denoiser import PATCH, Condition, denoise
from darkroom_demo.diffusion.things import THINGS
from darkroom_demo.diffusion.words import Wanted

Array: TypeAlias = NDArray[np.float32]

WEIGHTS = "denoiser.npz"
#: The seams of the network's patches vanish in the mean of what it says of a picture and of the same shifted by a
#: quarter of a patch: cycle spinning (Coifman and Donoho 1995). It matters in the last steps, where the seams are made.
_SPUN_BELOW = 0.3
_SHIFTS = tuple((down * PATCH // 4, across * PATCH // 4) for down in (-1, 1) for across in (-1, 1))
#: How many pictures the network sees at once, so that memory does not grow with the batch.
_AT_ONCE = 8


@dataclass(frozen=True)
class Model:
    """The network with its weights."""

    weights: Mapping[str, Array]

    def condition(self, wanted: Sequence[Sequence[Wanted]], backdrops: Array) -> Condition:
        """Return what rows of pictures are to show, each the mean of some things, or nothing in particular.

        `backdrops` is (n, 3), from 0 to 1.
        """
        things, colours = list(THINGS), list(COLOURS)
        thing = np.zeros((len(wanted), len(things) + 1), np.float32)
        colour = np.zeros((len(wanted), len(colours) + 1), np.float32)
        for row, of_row in enumerate(wanted):
            for each in of_row:
                thing[row, things.index(each.thing)] += 1 / len(of_row)
                colour[row, colours.index(each.colour) if each.colour else -1] += 1 / len(of_row)
            if not of_row:
                thing[row, -1] = colour[row, -1] = 1
        return Condition(thing, colour, 2 * backdrops - 1)

    def clean(self, noisy: Array, sigma: float, wanted: Condition, unwanted: Condition, scale: float) -> Array:
        """Return the clean pictures that are expected behind noisy ones: (n, SIDE, SIDE, 3), from -1 to 1.

        Classifier-free guidance (Ho and Salimans 2022) goes `scale` times as far from the unwanted to the wanted; the
        result is kept in range at each step, as pixels have to be (Saharia et al. 2022, static thresholding).
        """
        if scale == 1:
            return np.clip(self._clean(noisy, sigma, wanted), -1, 1)
        towards, away = self._clean(noisy, sigma, wanted), self._clean(noisy, sigma, unwanted)
        return np.clip(away + np.float32(scale) * (towards - away), -1, 1)

    def _clean(self, noisy: Array, sigma: float, condition: Condition) -> Array:
        if sigma > _SPUN_BELOW:
            return self._seen(noisy, sigma, condition)
        spun = [
            np.roll(self._seen(np.roll(noisy, shift, (1, 2)), sigma, condition), (-shift[0], -shift[1]), (1, 2))
            for shift in _SHIFTS
        ]
        mean: Array = np.mean(spun, axis=0, dtype=np.float32)
        return mean

    def _seen(self, noisy: Array, sigma: float, condition: Condition) -> Array:
        some = [slice(first, first + _AT_ONCE) for first in range(0, len(noisy), _AT_ONCE)]
        level = np.full(len(noisy), sigma, np.float32)
        return np.concatenate(
            [denoise(self.weights, noisy[rows], level[rows], condition.rows(rows), np) for rows in some]
        )


@cache
def load() -> Model:
    """Return the model of this package."""
    folder = files("darkroom_demo.diffusion")
    with (folder / WEIGHTS).open("rb") as file, np.load(file) as stored:
        weights = unpacked(stored)
    # Small matrices on several threads cost far more than they save, above all beside other processes.
    threadpool_limits(1, "blas")
    return Model(weights)


def packed(weights: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
    """Return matrices as bytes with a scale for each column, and the rest as 16-bit floats."""
    stored: dict[str, NDArray[Any]] = {}
    for name, values in weights.items():
        if values.ndim < 2 or len(values) < 16:
            stored[name] = values.astype(np.float16)
            continue
        scale = (np.abs(values).max(axis=0) / 127).astype(np.float32)
        stored[name] = np.round(values / np.maximum(scale, 1e-12)).astype(np.int8)
        stored[f"{name}:scale"] = scale.astype(np.float16)
    return stored


def unpacked(stored: Mapping[str, NDArray[Any]]) -> dict[str, Array]:
    """Return the weights that were packed."""
    return {
        name: stored[name].astype(np.float32) * stored[f"{name}:scale"].astype(np.float32)
        if f"{name}:scale" in stored
        else stored[name].astype(np.float32)
        for name in stored
        if not name.endswith(":scale")
    }
