"""The samplers where all is known: clean values are normal, so the clean value behind a noisy one has a formula."""

import numpy as np
import pytest

from darkroom_demo import catalog
from darkroom_demo.diffusion.noise import Noise
from darkroom_demo.diffusion.samplers import SAMPLERS, Array
from darkroom_demo.diffusion.schedules import MOST, sigmas

MEAN, DEVIATION = 0.3, 0.5
COUNT = 20_000
ANCESTRAL = {"euler_ancestral", "dpm_2_ancestral", "dpmpp_2m_sde", "lcm"}
#: How often a sampler asks for the clean picture in a step; those that ask twice need not before the last level.
TWICE = {"heun", "dpm_2", "dpm_2_ancestral"}


def expected(noisy: Array, sigma: float) -> Array:
    """The mean of the clean values behind noisy ones: both are normal, so it lies between, by their variances."""
    share = DEVIATION**2 / (DEVIATION**2 + sigma**2)
    return MEAN + np.float32(share) * (noisy - np.float32(MEAN))


class Run:
    """One run of a sampler, and what it asked for."""

    def __init__(self, sampler: str, steps: int, scheduler: str = "karras") -> None:
        noise = Noise(1)
        self.levels = sigmas(sampler, scheduler, steps)
        self.asked: list[float] = []
        self.drawn = 0

        def expect(noisy: Array, sigma: float) -> Array:
            self.asked.append(sigma)
            return expected(noisy, sigma)

        def fresh() -> Array:
            self.drawn += 1
            return noise.draw(COUNT)

        self.start = MEAN + noise.draw(COUNT) * np.float32(MOST)
        self.pictures = list(SAMPLERS[sampler](expect, self.start, self.levels, fresh))
        self.result = self.pictures[-1]


def exact(start: Array) -> Array:
    """Where the start would get in endlessly many steps without fresh noise."""
    return MEAN + (start - MEAN) * np.float32(DEVIATION / np.sqrt(DEVIATION**2 + MOST**2))


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - {"lcm"}))
def test_many_steps_give_values_distributed_as_the_clean_ones(sampler: str) -> None:
    result = Run(sampler, 100).result
    assert result.mean() == pytest.approx(MEAN, abs=0.02)
    assert result.std() == pytest.approx(DEVIATION, rel=0.06)


def test_lcm_takes_each_expected_picture_for_the_clean_one() -> None:
    # It is made for networks that expect a sharp picture at once: from this formula it gets ever nearer the mean.
    result = Run("lcm", 10).result
    assert result.mean() == pytest.approx(MEAN, abs=0.02)
    assert result.std() < DEVIATION


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_2m"])
def test_second_order_samplers_come_nearer_than_euler_with_the_same_steps(sampler: str) -> None:
    run, euler = Run(sampler, 20), Run("euler", 20)
    target = exact(euler.start)
    assert np.abs(run.result - target).mean() < 0.5 * np.abs(euler.result - target).mean()


@pytest.mark.parametrize("sampler", sorted({*SAMPLERS} - ANCESTRAL))
def test_samplers_without_fresh_noise_near_one_value_with_more_steps(sampler: str) -> None:
    few, many = Run(sampler, 10), Run(sampler, 40)
    target = exact(few.start)
    assert np.abs(many.result - target).mean() < np.abs(few.result - target).mean()


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_only_ancestral_samplers_draw_fresh_noise_and_none_in_the_last_step(sampler: str) -> None:
    assert Run(sampler, 6).drawn == (5 if sampler in ANCESTRAL else 0)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_each_step_asks_once_or_twice(sampler: str) -> None:
    run = Run(sampler, 6)
    assert len(run.pictures) == 6
    assert len(run.asked) == (11 if sampler in TWICE else 6)
    assert run.asked[0] == run.levels[0]
    assert min(run.asked) > 0


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_single_step_gives_what_is_expected(sampler: str) -> None:
    run = Run(sampler, 1)
    np.testing.assert_allclose(run.result, expected(run.start, MOST), atol=1e-5)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_pictures_stay_in_single_precision(sampler: str) -> None:
    assert {picture.dtype for picture in Run(sampler, 3).pictures} == {np.dtype(np.float32)}


def test_ddim_is_eulers_method() -> None:
    np.testing.assert_array_equal(Run("ddim", 7).result, Run("euler", 7).result)


def test_the_catalog_names_known_samplers_only() -> None:
    assert {*catalog.COMFYUI_SAMPLERS} == {*SAMPLERS}
    assert {known.sampler for known in catalog.WEBUI_SAMPLERS.values()} <= {*SAMPLERS}
