"""Normal noise that is the same bit for bit on every machine: neither a library's release nor libm has a say in it."""

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_LEVELS = 1 << 16


@cache
def _quantiles() -> NDArray[np.float32]:
    """Return the normal distribution in equally likely levels, rounded so that libm's last bits do not matter."""
    normal = NormalDist()
    upper = [round(normal.inv_cdf((level + 0.5) / _LEVELS), 4) for level in range(_LEVELS // 2, _LEVELS)]
    values = np.array([-value for value in reversed(upper)] + upper)
    return np.asarray(values / values.std().round(4), np.float32)


class Noise:
    """The noise of one picture of a batch, drawn in turn: first its start, then what ancestral samplers add.

    Another purpose gives other noise of the same seed.

    Philox is counter-based and specified (Salmon et al. 2011); numpy does not change its bit generators' streams.
    """

    def __init__(self, seed: int, index: int = 0, purpose: int = 0) -> None:
        self._bits = np.random.Philox(key=np.array([seed % (1 << 64), index + (purpose << 32)], np.uint64))

    def draw(self, *shape: int) -> NDArray[np.float32]:
        """Return the next values."""
        return _quantiles()[self._numbers(int(np.prod(shape)))].reshape(shape)

    def shares(self, count: int) -> list[float]:
        """Return so many numbers from 0 to 1, all alike likely."""
        return [float(number) / (_LEVELS - 1) for number in self._numbers(count)]

    def _numbers(self, count: int) -> NDArray[np.uint16]:
        return self._bits.random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count]
