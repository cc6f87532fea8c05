"""What one step of the training learns from: emoji painted on backdrops, what is asked for with each, noise levels.

Reads torch's generator of random numbers, and nothing else.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's custom
from torch import Tensor

from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.denoiser import Condition
from darkroom_demo.diffusion.things import THINGS
from training.dataset import LUMA, usual_colours

#: The share of pictures that are shown without what they are of: classifier-free guidance (Ho and Salimans 2022)
#: needs to know what is drawn unasked.
DROPPED = 0.1
#: The share that is painted in another colour than its own, so that any thing can be had in any colour.
TINTED = 0.25
#: The share of backdrops that are pale, and from which value on they are.
PALE, PALE_FROM = 0.75, 0.75
#: How often the usual colour of a thing is asked for by its name.
NAMED = 0.5
#: How much of the way to white a tint's lightest pixels go.
HIGHLIGHT = 0.8

#: The logarithms of the noise levels: normal, as in EDM (Karras et al. 2022, table 1), with its middle moved up to
#: where shapes are decided, which pixels without an autoencoder need; some are from all over the schedulers' range.
LEVEL_MEAN, LEVEL_DEVIATION = 0.4, 1.3
ANYWHERE, LEAST_LEVEL, LEVEL_RANGE = 0.1, -3.5, 7.9

_PALETTE = torch.tensor(list(COLOURS.values()))
_LUMA = torch.tensor(LUMA)
_USUAL = torch.tensor(usual_colours())


@dataclass(frozen=True)
class Emoji:
    """A batch from the data set: (n, SIDE, SIDE, 4), bytes; rows of colours and of things; pivots of lightness."""

    pictures: Tensor
    colour: Tensor
    thing: Tensor
    pivot: Tensor


def painted(emoji: Emoji) -> tuple[Tensor, Condition]:
    """Return clean pictures from -1 to 1, some of them tinted, on backdrops; and what they are to be asked for by."""
    count = len(emoji.pictures)
    values = emoji.pictures.float() / 255
    tint = torch.randint(0, len(COLOURS), (count,))
    is_tinted = torch.rand(count) < TINTED
    rgb = _chosen(is_tinted, _tinted(values[..., :3], emoji.pivot, _PALETTE[tint]), values[..., :3])
    backdrop = backdrops(count)
    clean = 2 * composited(rgb, values[..., 3:], backdrop) - 1
    dropped = torch.rand(count) < DROPPED
    is_usual = ~is_tinted & (_USUAL[emoji.thing] == emoji.colour)
    unnamed = dropped | ((torch.rand(count) < NAMED) & is_usual)
    thing = emoji.thing.masked_fill(dropped, len(THINGS))
    colour = torch.where(is_tinted, tint, emoji.colour).masked_fill(unnamed, len(COLOURS))
    asked = F.one_hot(thing, len(THINGS) + 1).float(), F.one_hot(colour, len(COLOURS) + 1).float()
    return clean, Condition(*asked, 2 * backdrop - 1)


def composited(rgb: Tensor, alpha: Tensor, backdrop: Tensor) -> Tensor:
    """Return pictures, (n, SIDE, SIDE, 3), on backdrops of one colour each, (n, 3)."""
    return rgb * alpha + backdrop[:, None, None] * (1 - alpha)


def backdrops(count: int) -> Tensor:
    """Return so many colours, from 0 to 1: pale ones mostly, strong ones sometimes."""
    pale = PALE_FROM + (1 - PALE_FROM) * torch.rand(count, 3)
    return torch.where(torch.rand(count, 1) < PALE, pale, torch.rand(count, 3))


def noise_levels(count: int) -> Tensor:
    """Return sigmas to train on."""
    anywhere = torch.rand(count) < ANYWHERE
    even = torch.rand(count) * LEVEL_RANGE + LEAST_LEVEL
    return torch.exp(torch.where(anywhere, even, LEVEL_MEAN + LEVEL_DEVIATION * torch.randn(count)))


def _tinted(rgb: Tensor, pivot: Tensor, tint: Tensor) -> Tensor:
    """Paint by lightness: from black at none to the tint at the pivot, and on from there towards white."""
    luma, middle = rgb @ _LUMA, pivot[:, None, None]
    dark = (luma / middle).clip(0, 1)[..., None] * tint[:, None, None]
    light = ((luma - middle) / (1 - middle)).clip(0, 1)[..., None] * HIGHLIGHT
    return dark + light * (1 - tint[:, None, None])


def _chosen(where: Tensor, there: Tensor, elsewhere: Tensor) -> Tensor:
    return torch.where(where[:, None, None, None], there, elsewhere)
