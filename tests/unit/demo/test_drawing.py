from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from darkroom_demo.drawing import OutOfMemoryError, Pace, Picture, Preview, Tempo, generate, png

FULL_SPEED = Pace(Tempo(), Event())
SIDES = st.integers(2, 24).map(lambda latents: latents * 8)


def draw(prompt: str, seed: int, width: int = 64, height: int = 64, **details: object) -> Image.Image:
    picture = Picture(prompt, "", seed, width, height, **details)  # type: ignore[arg-type]
    return generate([picture], 2, FULL_SPEED, lambda _number, _preview: None)[0]


def difference(first: Image.Image, second: Image.Image) -> float:
    """Return the mean difference of a channel, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(first, second)).mean
    return sum(means) / len(means)


@settings(deadline=None, max_examples=30)
@given(prompt=st.text(max_size=60), seed=st.integers(0, 2**64 - 1), width=SIDES, height=SIDES)
def test_the_same_request_gives_the_same_pixels_in_the_size_that_was_asked_for(
    prompt: str, seed: int, width: int, height: int
) -> None:
    first = draw(prompt, seed, width, height)
    assert first.size == (width, height)
    assert first.tobytes() == draw(prompt, seed, width, height).tobytes()


@settings(deadline=None, max_examples=20)
@given(prompt=st.text(max_size=20), seed=st.integers(0, 2**32))
def test_another_seed_gives_a_plainly_different_picture(prompt: str, seed: int) -> None:
    assert difference(draw(prompt, seed), draw(prompt, seed + 1)) > 3


def test_another_prompt_gives_a_plainly_different_picture() -> None:
    assert difference(draw("a lake", 7), draw("a road", 7)) > 3


@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("emerald", 1), ("blue", 2)])
def test_a_colour_in_the_prompt_colours_the_picture(colour: str, channel: int) -> None:
    means = ImageStat.Stat(draw(f"a {colour} landscape", 3)).mean
    assert max(range(3), key=means.__getitem__) == channel


def test_an_initial_image_shows_through_as_the_strength_falls() -> None:
    initial = Image.new("RGB", (64, 64), "magenta")
    faint = difference(draw("hills", 1, initial=initial, strength=0.2), initial)
    assert faint < difference(draw("hills", 1, initial=initial, strength=0.9), initial)


def test_a_preview_gets_nearer_to_the_picture_with_every_step() -> None:
    previews: list[Image.Image] = []

    def on_step(_number: int, preview: Preview) -> None:
        previews.append(preview())

    final = generate([Picture("a night sky", "", 5, 128, 128)], 6, FULL_SPEED, on_step)[0]
    distances = [difference(preview, final) for preview in previews]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == 0


def test_an_interrupted_run_gives_the_picture_as_far_as_it_is() -> None:
    stop = Event()
    seen: list[int] = []

    def on_step(number: int, _preview: Preview) -> None:
        seen.append(number)
        if number == 3:
            stop.set()

    picture = Picture("a night sky", "", 5, 128, 128)
    interrupted = generate([picture], 10, Pace(Tempo(), stop), on_step)[0]
    assert seen == [1, 2, 3]
    assert difference(interrupted, draw("a night sky", 5, 128, 128)) > 3


def test_a_run_that_is_held_does_its_first_step_and_waits_with_the_others_until_it_is_let_go() -> None:
    tempo, seen = Tempo(), Queue[int]()
    tempo.held.set()
    with ThreadPoolExecutor(1) as pool:
        pace = Pace(tempo, Event())
        run = pool.submit(generate, [Picture("hills", "", 1, 64, 64)], 3, pace, lambda number, _: seen.put(number))
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

    generate([Picture("hills", "", 1, 64, 64)], 3, Pace(tempo, stop), on_step)
    assert seen == [1]


def test_a_picture_that_is_too_large_is_refused() -> None:
    with pytest.raises(OutOfMemoryError, match="2048x2048 pixels, not 4096x64"):
        draw("hills", 1, 4096, 64)


def test_a_png_says_where_it_is_from() -> None:
    assert b"demo runtime" in png(draw("hills", 1), {"parameters": "hills"})
