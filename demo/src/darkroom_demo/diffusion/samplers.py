"""The samplers: how a picture is reached from noise, one noise level after the other.

Each is a generator over the steps: it yields the picture as it stands after each of them, and asks `expect` for the
clean picture behind a noisy one. They are k-diffusion's (sampling.py), which both engines use, in its notation:
noisy = clean + sigma * normal. Pure but for the noise that they draw.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
#: The clean pictures that are expected behind noisy ones of that sigma.
Expect: TypeAlias = Callable[[Array, float], Array]
#: Fresh noise of the pictures' shape.
Fresh: TypeAlias = Callable[[], Array]
Sampler: TypeAlias = Callable[[Expect, Array, Sequence[float], Fresh], Iterator[Array]]


def _euler(expect: Expect, noisy: Array, sigmas: Sequence[float], _fresh: Fresh) -> Iterator[Array]:
    for sigma, following in pairwise(sigmas):
        noisy = _towards(noisy, expect(noisy, sigma), sigma, following)
        yield noisy


def _euler_ancestral(expect: Expect, noisy: Array, sigmas: Sequence[float], fresh: Fresh) -> Iterator[Array]:
    for sigma, following in pairwise(sigmas):
        down, up = _ancestral(sigma, following)
        noisy = _renoised(_towards(noisy, expect(noisy, sigma), sigma, down), up, fresh)
        yield noisy


def _heun(expect: Expect, noisy: Array, sigmas: Sequence[float], _fresh: Fresh) -> Iterator[Array]:
    """Algorithm 2 of Karras et al. 2022, without its churn."""
    for sigma, following in pairwise(sigmas):
        clean = expect(noisy, sigma)
        guess = _towards(noisy, clean, sigma, following)
        if following > 0:
            # Half of the step with the slope from where it began, half with that from where it ended.
            there = _towards(guess, expect(guess, following), following, sigma)
            guess = noisy + (guess - noisy + guess - there) * np.float32(0.5)
        noisy = guess
        yield noisy


def _dpm_2(expect: Expect, noisy: Array, sigmas: Sequence[float], _fresh: Fresh) -> Iterator[Array]:
    for sigma, following in pairwise(sigmas):
        noisy = _midpoint(expect, noisy, sigma, following)
        yield noisy


def _dpm_2_ancestral(expect: Expect, noisy: Array, sigmas: Sequence[float], fresh: Fresh) -> Iterator[Array]:
    for sigma, following in pairwise(sigmas):
        down, up = _ancestral(sigma, following)
        noisy = _renoised(_midpoint(expect, noisy, sigma, down), up, fresh)
        yield noisy


def _dpmpp_2m(expect: Expect, noisy: Array, sigmas: Sequence[float], _fresh: Fresh) -> Iterator[Array]:
    """DPM-Solver++(2M): Lu et al. 2022, Algorithm 2."""
    before: Array | None = None
    for number, (sigma, following) in enumerate(pairwise(sigmas)):
        clean = expect(noisy, sigma)
        target = clean
        if before is not None and following > 0:
            ratio = math.log(sigmas[number - 1] / sigma) / math.log(sigma / following)
            target = clean + (clean - before) / (2 * ratio)
        noisy = _towards(noisy, target, sigma, following)
        before = clean
        yield noisy


def _dpmpp_2m_sde(expect: Expect, noisy: Array, sigmas: Sequence[float], fresh: Fresh) -> Iterator[Array]:
    """The midpoint variant, with all of the noise (eta 1)."""
    before: Array | None = None
    for number, (sigma, following) in enumerate(pairwise(sigmas)):
        clean = expect(noisy, sigma)
        if following == 0:
            noisy = clean
        else:
            step = math.log(sigma / following)
            kept = (following / sigma) * math.exp(-step)
            gone = -math.expm1(-2 * step)
            noisy = kept * noisy + gone * clean
            if before is not None:
                ratio = math.log(sigmas[number - 1] / sigma) / step
                noisy = noisy + 0.5 * gone / ratio * (clean - before)
            noisy = noisy + fresh() * np.float32(following * math.sqrt(gone))
        before = clean
        yield noisy


def _lcm(expect: Expect, noisy: Array, sigmas: Sequence[float], fresh: Fresh) -> Iterator[Array]:
    for sigma, following in pairwise(sigmas):
        noisy = _renoised(expect(noisy, sigma), following, fresh)
        yield noisy


def _towards(noisy: Array, clean: Array, sigma: float, following: float) -> Array:
    """Go from one noise level to another in a straight line towards the clean picture."""
    return clean + (noisy - clean) * np.float32(following / sigma)


def _midpoint(expect: Expect, noisy: Array, sigma: float, following: float) -> Array:
    clean = expect(noisy, sigma)
    if following == 0:
        return clean
    middle = math.sqrt(sigma * following)
    halfway = _towards(noisy, clean, sigma, middle)
    return noisy + (halfway - expect(halfway, middle)) * np.float32((following - sigma) / middle)


def _ancestral(sigma: float, following: float) -> tuple[float, float]:
    """Return down to which level a step goes, and how much noise brings it up to the next again."""
    up = min(following, math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2))
    return math.sqrt(following**2 - up**2), up


def _renoised(noisy: Array, sigma: float, fresh: Fresh) -> Array:
    return noisy + fresh() * np.float32(sigma) if sigma > 0 else noisy


#: By ComfyUI's names. DDIM without its own noise is Euler's method (Song et al. 2021); their schedules differ.
SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "euler": _euler,
        "euler_ancestral": _euler_ancestral,
        "heun": _heun,
        "dpm_2": _dpm_2,
        "dpm_2_ancestral": _dpm_2_ancestral,
        "dpmpp_2m": _dpmpp_2m,
        "dpmpp_2m_sde": _dpmpp_2m_sde,
        "lcm": _lcm,
        "ddim": _euler,
    }
)
