"""The schedulers: which noise levels a sampler goes through. Pure; formulas as in both engines' sources."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

#: The least and most noise that the network was trained on.
LEAST, MOST = 0.03, 80.0

Schedule: TypeAlias = Callable[[int], list[float]]


def _time(sigma: float) -> float:
    """The share of the picture in a mixture with noise: the time of rectified flows (Liu et al. 2022)."""
    return 1 / (1 + sigma)


def _sigma(time: float) -> float:
    return 1 / time - 1


def _karras(steps: int, rho: float = 7.0) -> list[float]:
    """Karras et al. 2022, equation 5."""
    ramp = np.linspace(0, 1, steps)
    most, least = MOST ** (1 / rho), LEAST ** (1 / rho)
    return [float(value) for value in (most + ramp * (least - most)) ** rho]


def _exponential(steps: int) -> list[float]:
    return [float(value) for value in np.geomspace(MOST, LEAST, steps)]


def _normal(steps: int) -> list[float]:
    """In equal steps of time, the last at the least noise."""
    return [_sigma(float(time)) for time in np.linspace(_time(MOST), _time(LEAST), steps)]


def _uniform(steps: int) -> list[float]:
    """In equal steps of time, the last of which ends at no noise: "sgm_uniform", "simple", DDIM's."""
    return [_sigma(float(time)) for time in np.linspace(_time(MOST), _time(LEAST), steps + 1)[:-1]]


def _kl_optimal(steps: int) -> list[float]:
    """Sabour et al. 2024 (arXiv 2404.14507), equation 23."""
    ramp = np.linspace(0, 1, steps)
    return [float(value) for value in np.tan(ramp * math.atan(LEAST) + (1 - ramp) * math.atan(MOST))]


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "normal": _normal,
        "karras": _karras,
        "exponential": _exponential,
        "sgm_uniform": _uniform,
        "simple": _uniform,
        "ddim_uniform": _uniform,
        "kl_optimal": _kl_optimal,
    }
)


#: Samplers that leave out the level before none, as both engines have them do.
_DISCARD_PENULTIMATE = ("dpm_2", "dpm_2_ancestral")


def sigmas(sampler: str, scheduler: str, steps: int) -> list[float]:
    """Return the noise levels before each step, and 0 after the last. Raises `ValueError` for less than none."""
    if steps < 0:
        raise ValueError(f"steps has to be 0 or more, not {steps}")
    if steps == 0:
        return [0.0]
    schedule = SCHEDULES[scheduler]
    return [*(schedule(steps + 1)[:-1] if sampler in _DISCARD_PENULTIMATE else schedule(steps)), 0.0]
