import io
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from darkroom_demo.diffusion.samplers import SAMPLERS
from darkroom_demo.diffusion.schedules import sigmas
from darkroom_demo.drawing import (
    OutOfMemoryError,
    Pace,
    Picture,
    Preview,
    Sampling,
    Tempo,
    generate,
    png,
)
from darkroom_demo.notes import NOTE

FULL_SPEED = Pace(Tempo(), Event())
SIDES = st.integers(2, 24).map(lambda latents: latents * 8)
#: A step of each half of the noise levels: enough to tell that something matters.
STEPS = 2
APPLE = "an apple, white background"
#: How far apart two values of a pixel may be that are the same on any machine.
SAME = 2


def picture(prompt: str = APPLE, seed: int = 7, **details: Any) -> Picture:
    return Picture(**{"prompt": prompt, "negative_prompt": "", "seed": seed, "width": 96, "height": 96, **details})


def sampling(steps: int = STEPS, sampler: str = "euler", cfg_scale: float = 4.0) -> Sampling:
    return Sampling(sampler, sigmas(sampler, "karras", steps), cfg_scale)


def draw(pictures: list[Picture], how: Sampling | None = None) -> list[Image.Image]:
    return generate(pictures, how or sampling(), FULL_SPEED, lambda _number, _preview: None)


def drawn(prompt: str = APPLE, seed: int = 7, **details: Any) -> Image.Image:
    return draw([picture(prompt, seed, **details)])[0]


def difference(first: Image.Image, second: Image.Image) -> float:
    """Return the mean difference of a channel, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(first, second)).mean
    return sum(means) / len(means)


def farthest(first: Image.Image, second: Image.Image) -> int:
    """Return the largest difference of a value, 0 to 255."""
    return int(np.asarray(ImageChops.difference(first, second)).max())


@settings(deadline=None, max_examples=10)
@given(prompt=st.text(max_size=60), seed=st.integers(0, 2**64 - 1), width=SIDES, height=SIDES)
def test_the_same_request_gives_the_same_pixels_in_the_size_that_was_asked_for(
    prompt: str, seed: int, width: int, height: int
) -> None:
    asked = picture(prompt, seed, width=width, height=height)
    first, again = (draw([asked], sampling(1))[0] for _ in range(2))
    assert first.size == (width, height)
    assert first.tobytes() == again.tobytes()


def test_another_seed_gives_a_plainly_different_picture() -> None:
    assert difference(drawn("an apple", 7), drawn("an apple", 8)) > 1


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1])
def test_large_seeds_count_to_their_last_digit(seed: int) -> None:
    assert farthest(drawn(seed=seed), drawn(seed=seed - 1)) > SAME


@pytest.mark.parametrize("other", ["a cat", "a green apple", "a car at night"])
def test_another_prompt_gives_a_plainly_different_picture(other: str) -> None:
    assert difference(drawn("an apple"), drawn(other)) > 1


@pytest.mark.parametrize(
    "how", [sampling(STEPS + 1), sampling(cfg_scale=1.0), sampling(cfg_scale=9.0), sampling(sampler="euler_ancestral")]
)
def test_steps_guidance_and_sampler_change_the_picture(how: Sampling) -> None:
    assert farthest(drawn(), draw([picture()], how)[0]) > SAME


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_draws_and_draws_the_same_again(sampler: str) -> None:
    first, again = (draw([picture(width=64, height=64)], sampling(sampler=sampler))[0] for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_words_of_no_meaning_change_nothing() -> None:
    assert drawn().tobytes() == drawn(f"a flurble of {APPLE}").tobytes()


def test_a_backdrop_is_the_colour_that_is_asked_for() -> None:
    red, _, blue = ImageStat.Stat(drawn("an apple, blue background", width=192).crop((0, 0, 40, 96))).mean
    assert blue > red + 100


def test_the_negative_prompt_counts_as_far_as_there_is_guidance() -> None:
    without = [picture(), picture(negative_prompt="a cat")]
    plain, other = (draw([asked])[0] for asked in without)
    assert farthest(plain, other) > SAME
    plain, other = (draw([asked], sampling(cfg_scale=1.0))[0] for asked in without)
    assert plain.tobytes() == other.tobytes()


def test_a_variation_goes_from_the_seed_to_the_subseed() -> None:
    own, other = drawn(seed=1), drawn(seed=2)
    none, some, whole = (drawn(seed=1, subseed=2, subseed_strength=strength) for strength in (0.0, 0.5, 1.0))
    assert none.tobytes() == own.tobytes()
    assert farthest(whole, other) <= SAME
    assert min(farthest(some, own), farthest(some, other)) > SAME


def test_a_small_variation_is_nearer_to_the_seeds_picture_than_a_large_one() -> None:
    own = drawn(seed=1)
    small, large = (drawn(seed=1, subseed=2, subseed_strength=strength) for strength in (0.1, 0.6))
    assert difference(small, own) < difference(large, own)


def test_a_seed_may_be_its_own_variation() -> None:
    assert farthest(drawn(seed=1, subseed=1, subseed_strength=0.5), drawn(seed=1)) <= SAME


def test_the_pictures_of_a_batch_differ_and_each_is_as_it_would_be_alone() -> None:
    batch = [picture(index=0), picture(index=1), picture("a cat and a dog", 3, width=192)]
    together = draw(batch, sampling(sampler="euler_ancestral"))
    assert farthest(together[0], together[1]) > SAME
    for asked, of_batch in zip(batch, together, strict=True):
        assert farthest(draw([asked], sampling(sampler="euler_ancestral"))[0], of_batch) <= SAME


def test_two_things_are_drawn_side_by_side() -> None:
    left, right = (drawn("a cat and a dog, white background", width=192).crop((x, 0, x + 96, 96)) for x in (0, 96))
    assert difference(left, right) > 1
    swapped = drawn("a dog and a cat, white background", width=192)
    assert farthest(swapped.crop((0, 0, 96, 96)), left) > SAME


def initial_image() -> Image.Image:
    return Image.radial_gradient("L").resize((96, 96)).convert("RGB")


def test_an_initial_image_shows_through_as_the_steps_get_fewer() -> None:
    initial, levels = initial_image(), sigmas("euler", "karras", 10)
    changed = [
        difference(draw([picture(initial=initial)], Sampling("euler", levels[-(steps + 1) :], 4.0))[0], initial)
        for steps in (1, 5, 10)
    ]
    assert changed[0] < changed[1] < changed[2]


def test_guidance_has_a_say_wherever_a_run_begins() -> None:
    last = sigmas("euler", "karras", 20)[-6:]
    assert last[0] < 1
    weak, strong = (
        draw([picture(initial=initial_image())], Sampling("euler", last, scale))[0] for scale in (1.0, 12.0)
    )
    assert difference(weak, strong) > 0


def test_a_scale_of_nothing_leaves_only_what_is_not_wanted() -> None:
    apple, dog = (
        draw([picture(prompt, negative_prompt="a cat", width=64, height=64)], sampling(4, cfg_scale=0.0))[0]
        for prompt in ("an apple", "a dog")
    )
    assert apple.tobytes() == dog.tobytes()


def test_what_is_transparent_in_an_initial_image_is_white() -> None:
    clear, white = Image.new("RGBA", (96, 96), (0, 0, 0, 0)), Image.new("RGB", (96, 96), "white")
    assert drawn(initial=clear).tobytes() == drawn(initial=white).tobytes()


def test_a_mask_with_an_alpha_channel_is_read_by_that() -> None:
    mask, seen_through = Image.new("L", (96, 96)), Image.new("RGBA", (96, 96), "white")
    mask.paste(255, (48, 0, 96, 96))
    seen_through.putalpha(mask)
    initial = initial_image()
    assert drawn(initial=initial, mask=seen_through).tobytes() == drawn(initial=initial, mask=mask).tobytes()


def test_an_initial_image_is_brought_to_the_size_that_is_asked_for() -> None:
    assert drawn(initial=initial_image(), width=128, height=64).size == (128, 64)


def test_a_mask_keeps_what_is_black() -> None:
    initial, mask = initial_image(), Image.new("L", (96, 96))
    mask.paste(255, (48, 0, 96, 96))
    changed = ImageChops.difference(drawn(initial=initial, mask=mask), initial)
    assert changed.crop((0, 0, 47, 96)).getbbox() is None
    assert changed.crop((49, 0, 96, 96)).getbbox() is not None


def test_each_step_has_its_preview_and_the_last_is_the_picture() -> None:
    previews: list[Image.Image] = []

    def on_step(number: int, preview: Preview) -> None:
        previews.append(preview())
        assert len(previews) == number

    final = generate([picture()], sampling(6), FULL_SPEED, on_step)[0]
    assert len(previews) == 6
    assert previews[-1].tobytes() == final.tobytes()
    assert difference(previews[0], final) > difference(previews[4], final)


def test_an_interrupted_run_ends_between_steps_with_the_picture_as_it_is_expected_then() -> None:
    stop = Event()
    previews: list[Preview] = []

    def on_step(number: int, preview: Preview) -> None:
        previews.append(preview)
        if number == 2:
            stop.set()

    interrupted = generate([picture()], sampling(6), Pace(Tempo(), stop), on_step)[0]
    assert len(previews) == 2
    assert interrupted.tobytes() == previews[1]().tobytes()


def test_a_run_that_is_held_does_its_first_step_and_waits_with_the_others_until_it_is_let_go() -> None:
    tempo, seen = Tempo(), Queue[int]()
    tempo.held.set()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(generate, [picture()], sampling(3), Pace(tempo, Event()), lambda number, _: seen.put(number))
        assert seen.get(timeout=60) == 1
        with pytest.raises(Empty):
            seen.get(timeout=0.1)
        tempo.held.clear()
        run.result()
    assert [seen.get(), seen.get()] == [2, 3]


def test_a_run_that_is_held_can_be_interrupted() -> None:
    tempo, stop = Tempo(), Event()
    tempo.held.set()
    seen: list[int] = []

    def on_step(number: int, _preview: Preview) -> None:
        seen.append(number)
        stop.set()

    generate([picture()], sampling(3), Pace(tempo, stop), on_step)
    assert seen == [1]


def test_a_step_that_took_its_time_is_not_waited_for() -> None:
    assert not Pace(Tempo(seconds_per_step=3600), Event()).ends_before(1, took=3600)


def test_a_picture_that_is_too_large_is_refused() -> None:
    with pytest.raises(OutOfMemoryError, match="2048x2048 pixels, not 4096x64"):
        drawn(width=4096, height=64)


def test_a_batch_that_is_too_large_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(OutOfMemoryError, match="67108864 pixels at once"):
        draw([picture(width=2048, height=2048, index=index) for index in range(17)])


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size has to be 1 or more"):
        draw([])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_no_number_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ValueError, match=f"cfg_scale has to be a number, not {value}"):
        sampling(cfg_scale=value)
    with pytest.raises(ValueError, match=f"subseed_strength has to be a number, not {value}"):
        picture(subseed_strength=value)


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ("a red apple", None),
        ("a quantum apple on a table", "unknown: quantum, table"),
        ("six cats and a dog", "left out: dog"),
        ("a red and green apple", "left out: red"),
    ],
)
def test_a_picture_says_what_of_its_prompt_it_does_not_show(prompt: str, note: str | None) -> None:
    made = draw([picture(prompt, width=64, height=64)], sampling(1))[0]
    assert made.info.get(NOTE) == note
    assert Image.open(io.BytesIO(png(made, {}))).info.get(NOTE) == note


@pytest.mark.parametrize(("prompt", "unknown"), [("", ""), ("mañana", "; unknown: mañana")])
def test_a_prompt_that_names_nothing_known_gets_something_that_is_named(prompt: str, unknown: str) -> None:
    made = draw([picture(prompt, width=64, height=64)], sampling(1))[0]
    said = re.fullmatch(
        "the prompt names nothing that this model knows; drawn instead: (.+?)" + unknown, made.info[NOTE]
    )
    assert said
    thing = draw([picture(said[1], width=64, height=64)], sampling(1))[0]
    assert made.tobytes() == thing.tobytes()


def test_a_picture_says_nothing_of_the_file_that_it_started_from() -> None:
    initial = drawn("a flurble", width=64, height=64)
    initial.info["parameters"] = "a flurble"
    assert drawn(initial=initial).info == {}


def test_the_log_has_the_unknown_words_of_a_batch_once_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    asked = [picture("a quantum apple", negative_prompt="blurry cat", index=index) for index in range(2)]
    with caplog.at_level(logging.INFO, "darkroom_demo"):
        draw([*asked, picture("a red apple")], sampling(1))
    assert caplog.messages == ["unknown: quantum", "left out of the negative prompt: blurry"]


def test_a_png_says_where_it_is_from() -> None:
    made = Image.open(io.BytesIO(png(Image.new("RGB", (8, 8)), {"parameters": "an apple"})))
    assert made.info == {"parameters": "an apple", "Darkroom": "demo runtime: drawn by a small diffusion model"}
