from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_demo.catalog import WEBUI_SAMPLERS, WEBUI_SCHEDULERS, webui_schedule
from darkroom_demo.diffusion.samplers import SAMPLERS
from darkroom_demo.diffusion.schedules import LEAST, MOST, SCHEDULES, sigmas

#: Those whose last step is one from the least noise; the others' last step leaves more at once.
TO_THE_LEAST = {"normal", "karras", "exponential", "kl_optimal"}


@given(st.sampled_from(sorted(SAMPLERS)), st.sampled_from(sorted(SCHEDULES)), st.integers(1, 200))
def test_noise_falls_from_the_most_to_none_in_as_many_steps_as_asked_for(
    sampler: str, scheduler: str, steps: int
) -> None:
    levels = sigmas(sampler, scheduler, steps)
    assert len(levels) == steps + 1
    assert levels[0] == pytest.approx(MOST)
    assert levels[-1] == 0
    assert all(higher > lower for higher, lower in pairwise(levels))


@pytest.mark.parametrize("scheduler", sorted(SCHEDULES))
def test_some_schedulers_stop_at_the_least_noise_before_there_is_none(scheduler: str) -> None:
    before_none = sigmas("euler", scheduler, 20)[-2]
    assert (before_none == pytest.approx(LEAST)) == (scheduler in TO_THE_LEAST)


@pytest.mark.parametrize("sampler", ["dpm_2", "dpm_2_ancestral"])
def test_samplers_of_two_looks_a_step_leave_out_the_level_before_none(sampler: str) -> None:
    *others, _, none = sigmas("euler", "karras", 21)
    assert sigmas(sampler, "karras", 20) == [*others, none]


def test_no_steps_are_no_noise() -> None:
    assert sigmas("euler", "karras", 0) == [0]


def test_karras_is_as_the_paper_has_it() -> None:
    seventh = ((MOST ** (1 / 7) + LEAST ** (1 / 7)) / 2) ** 7
    assert sigmas("euler", "karras", 3)[1] == pytest.approx(seventh)


def test_exponential_steps_divide_the_noise_alike() -> None:
    high, middle, low, _ = sigmas("euler", "exponential", 3)
    assert high / middle == pytest.approx(middle / low)


def test_uniform_steps_mix_in_the_picture_alike() -> None:
    shares = [1 / (1 + sigma) for sigma in sigmas("euler", "sgm_uniform", 10)]
    gains = [after - before for before, after in pairwise(shares)]
    assert gains[:-1] == pytest.approx([gains[0]] * 9)
    assert gains[-1] > gains[0]


@pytest.mark.parametrize("sampler", sorted(WEBUI_SAMPLERS))
@pytest.mark.parametrize("scheduler", sorted(WEBUI_SCHEDULERS.values()))
def test_every_name_of_the_web_ui_means_a_sampler_and_a_schedule(sampler: str, scheduler: str) -> None:
    assert WEBUI_SAMPLERS[sampler].sampler in SAMPLERS
    assert webui_schedule(sampler, scheduler) in SCHEDULES


@pytest.mark.parametrize(
    ("sampler", "scheduler", "expected"),
    [
        ("DPM++ 2M", "Automatic", "karras"),
        ("Euler a", "Automatic", "normal"),
        ("DDIM", "Automatic", "ddim_uniform"),
        ("DDIM", "Karras", "karras"),
        ("Euler", "Uniform", "normal"),
    ],
)
def test_a_sampler_of_the_web_ui_has_its_own_schedule_unless_another_is_named(
    sampler: str, scheduler: str, expected: str
) -> None:
    assert webui_schedule(sampler, scheduler) == expected
