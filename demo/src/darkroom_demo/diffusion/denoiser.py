"""The network: a transformer over patches that predicts the clean picture from a noisy one.

Pure, and written once: `xp` is numpy where pictures are drawn and torch where the network is trained. It follows
JiT (Li and He 2025, arXiv 2511.13720): pixels without an autoencoder, large patches, the clean picture as what is
predicted; and DiT's adaptive norms (Peebles and Xie 2022). A thing is a learnt code for each patch, which is what makes
so small a network learn hundreds of them within an hour.

The noise level sigma is k-diffusion's: noisy = clean + sigma * normal, clean from -1 to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Array: TypeAlias = Any  # of numpy or of torch
Weights: TypeAlias = Mapping[str, Array]

#: Pixels: the side of a picture as the network sees it, and of a patch.
SIDE = 96
PATCH = 12
PATCHES = (SIDE // PATCH) ** 2
VALUES = PATCH * PATCH * 3
#: The standard deviation of clean pictures, by which what the network sees is scaled (Karras et al. 2022).
DATA_DEVIATION = 0.6

WIDTH = 192
LAYERS = 6
HEADS = 6
#: Numbers that a thing has for each patch.
CODE = 32
FREQUENCIES = 32


@dataclass(frozen=True)
class Condition:
    """What a batch of pictures is to show: a row each.

    `thing` and `colour` are rows of the weights' tables (the last row of each means none), averaged by the weights in
    the matrices: (n, things) and (n, colours), rows that add up to 1. `backdrop` is (n, 3), from -1 to 1.
    """

    thing: Array
    colour: Array
    backdrop: Array

    def rows(self, of: slice) -> "Condition":
        """Return what some of the pictures are to show."""
        return Condition(self.thing[of], self.colour[of], self.backdrop[of])


def shapes(things: int, colours: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights for so many things and colours, without the rows for none."""
    layer = {
        "attend": (WIDTH, 3 * WIDTH),
        "attended": (WIDTH, WIDTH),
        "widen": (WIDTH, 4 * WIDTH),
        "narrow": (4 * WIDTH, WIDTH),
        "modulation": (6, WIDTH),
    }
    return {
        "patch": (VALUES, WIDTH),
        "position": (PATCHES, WIDTH),
        "thing": (things + 1, PATCHES * CODE),
        "code": (CODE, WIDTH),
        "colour": (colours + 1, WIDTH),
        "backdrop": (4, WIDTH),
        "level": (2 * FREQUENCIES, WIDTH),
        "modulate": (WIDTH, 6 * WIDTH),
        "head_modulation": (2, WIDTH),
        "head": (WIDTH, VALUES),
        "head_bias": (VALUES,),
        **{f"layer{number}.{name}": shape for number in range(LAYERS) for name, shape in layer.items()},
    }


def denoise(weights: Weights, noisy: Array, sigma: Array, condition: Condition, xp: Any) -> Array:
    """Return the clean pictures that the network expects behind noisy ones; (n, SIDE, SIDE, 3) both, sigma is (n,)."""
    count = noisy.shape[0]
    scaled = noisy / xp.sqrt(sigma**2 + DATA_DEVIATION**2)[:, None, None, None]
    code = (condition.thing @ weights["thing"]).reshape(count, PATCHES, CODE)
    look = condition.colour @ weights["colour"] + condition.backdrop @ weights["backdrop"][:3] + weights["backdrop"][3]
    tokens = _patches(scaled, xp) @ weights["patch"] + weights["position"] + code @ weights["code"] + look[:, None]

    level = _silu(_waves(xp.log(sigma), xp) @ weights["level"] + look, xp)
    modulation = (level @ weights["modulate"]).reshape(count, 6, 1, WIDTH)
    for number in range(LAYERS):
        tokens = _layer(weights, f"layer{number}.", tokens, modulation, xp)
    shift, scale = weights["head_modulation"]
    values = _modulated(tokens, shift, scale, xp) @ weights["head"] + weights["head_bias"]
    return _pictures(values, xp)


def _layer(weights: Weights, name: str, tokens: Array, modulation: Array, xp: Any) -> Array:
    change = modulation + weights[f"{name}modulation"][:, None]
    shift, scale, gate = change[:, 0], change[:, 1], change[:, 2]
    seen = _modulated(tokens, shift, scale, xp)
    tokens = tokens + gate * (_attention(seen @ weights[f"{name}attend"], xp) @ weights[f"{name}attended"])
    shift, scale, gate = change[:, 3], change[:, 4], change[:, 5]
    wide = xp.clip(_modulated(tokens, shift, scale, xp) @ weights[f"{name}widen"], 0, None)
    return tokens + gate * (wide**2 @ weights[f"{name}narrow"])


def _attention(projected: Array, xp: Any) -> Array:
    count, length = projected.shape[:2]
    split = projected.reshape(count, length, 3, HEADS, WIDTH // HEADS)
    query, key, value = (xp.swapaxes(split[:, :, index], 1, 2) for index in range(3))
    # Normed queries and keys keep the weights of attention from running away (Henry et al. 2020).
    scores = _norm(query, xp) @ xp.swapaxes(_norm(key, xp), 2, 3) * (1 / (WIDTH // HEADS) ** 0.5)
    share = xp.exp(scores)  # at most e to the root of a head's width: no need to subtract the largest
    share = share / share.sum(axis=-1, keepdims=True)
    return xp.swapaxes(share @ value, 1, 2).reshape(count, length, WIDTH)


def _modulated(tokens: Array, shift: Array, scale: Array, xp: Any) -> Array:
    return _norm(tokens, xp) * (1 + scale) + shift


def _norm(values: Array, xp: Any) -> Array:
    return values / xp.sqrt((values * values).mean(axis=-1, keepdims=True) + 1e-6)


def _silu(values: Array, xp: Any) -> Array:
    return values / (1 + xp.exp(-values))


def _waves(level: Array, xp: Any) -> Array:
    angles = level[:, None] * xp.exp(xp.linspace(-2.0, 3.0, FREQUENCIES, dtype=level.dtype))
    return xp.concatenate([xp.sin(angles), xp.cos(angles)], axis=-1)


def _patches(pictures: Array, xp: Any) -> Array:
    across = SIDE // PATCH
    split = pictures.reshape(-1, across, PATCH, across, PATCH, 3)
    return xp.swapaxes(split, 2, 3).reshape(-1, PATCHES, VALUES)


def _pictures(values: Array, xp: Any) -> Array:
    across = SIDE // PATCH
    split = values.reshape(-1, across, across, PATCH, PATCH, 3)
    return xp.swapaxes(split, 2, 3).reshape(-1, SIDE, SIDE, 3)
