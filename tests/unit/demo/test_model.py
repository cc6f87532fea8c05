import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from darkroom_demo.diffusion import model
from darkroom_demo.diffusion.colours import COLOURS
from darkroom_demo.diffusion.denoiser import SIDE, Condition, shapes
from darkroom_demo.diffusion.model import packed, unpacked
from darkroom_demo.diffusion.noise import Noise
from darkroom_demo.diffusion.things import THINGS
from darkroom_demo.diffusion.words import Wanted

APPLE, RED_APPLE, CAT = Wanted("apple"), Wanted("apple", "red"), Wanted("cat")
SIGMA = 2.0


def condition(*wanted: list[Wanted]) -> Condition:
    return model.load().condition(wanted, np.full((len(wanted), 3), 0.9, np.float32))


def noisy(count: int) -> NDArray[np.float32]:
    return np.concatenate([Noise(7, index).draw(1, SIDE, SIDE, 3) for index in range(count)]) * np.float32(SIGMA)


def clean(wanted: Condition, unwanted: Condition, scale: float) -> NDArray[np.float32]:
    return model.load().clean(noisy(len(wanted.thing)), SIGMA, wanted, unwanted, scale)


def test_the_weights_are_there_for_every_thing_and_colour() -> None:
    weights = model.load().weights
    assert {name: values.shape for name, values in weights.items()} == shapes(len(THINGS), len(COLOURS))
    assert all(np.isfinite(values).all() for values in weights.values())


@given(seed=st.integers(0, 1000), rows=st.integers(16, 64), columns=st.integers(1, 8), size=st.floats(1e-3, 100))
def test_packing_loses_less_than_a_hundredth_of_a_columns_largest_value(
    seed: int, rows: int, columns: int, size: float
) -> None:
    values = Noise(seed).draw(rows, columns) * np.float32(size)
    stored = packed({"matrix": values})
    assert stored["matrix"].dtype == np.int8
    again = unpacked(stored)["matrix"]
    assert again.dtype == np.float32
    assert (np.abs(again - values) <= 0.01 * np.abs(values).max(axis=0)).all()


def test_what_is_small_is_packed_as_halves() -> None:
    values = {"bias": Noise(1).draw(100), "modulation": Noise(2).draw(6, 4)}
    again = unpacked(packed(values))
    assert list(again) == list(values)
    for name, kept in values.items():
        np.testing.assert_allclose(again[name], kept, rtol=1e-3, atol=1e-6)


def test_a_column_of_nothing_stays_nothing() -> None:
    assert not unpacked(packed({"matrix": np.zeros((20, 2), np.float32)}))["matrix"].any()


def test_a_condition_names_rows_of_the_tables() -> None:
    told = condition([RED_APPLE], [CAT], [], [RED_APPLE, CAT])
    apple, cat, red = list(THINGS).index("apple"), list(THINGS).index("cat"), list(COLOURS).index("red")
    assert told.thing.shape == (4, len(THINGS) + 1)
    assert told.colour.shape == (4, len(COLOURS) + 1)
    np.testing.assert_allclose(told.thing.sum(axis=1), 1)
    np.testing.assert_allclose(told.colour.sum(axis=1), 1)
    assert (told.thing[0, apple], told.colour[0, red]) == (1, 1)
    assert (told.thing[1, cat], told.colour[1, -1]) == (1, 1)
    assert (told.thing[2, -1], told.colour[2, -1]) == (1, 1)
    assert (told.thing[3, apple], told.thing[3, cat], told.colour[3, red], told.colour[3, -1]) == (0.5,) * 4
    np.testing.assert_allclose(told.backdrop, 0.8, atol=1e-6)


def test_pictures_are_in_range_and_in_single_precision() -> None:
    drawn = clean(condition([APPLE]), condition([]), 30.0)
    assert drawn.shape == (1, SIDE, SIDE, 3)
    assert drawn.dtype == np.float32
    assert (drawn.min(), drawn.max()) == (-1, 1)


def test_without_guidance_nothing_but_the_wanted_counts() -> None:
    alone = clean(condition([APPLE]), condition([]), 1.0)
    np.testing.assert_array_equal(alone, clean(condition([APPLE]), condition([CAT]), 1.0))
    assert not np.array_equal(alone, clean(condition([CAT]), condition([]), 1.0))


def test_guidance_goes_from_the_unwanted_to_the_wanted_and_on() -> None:
    apple, cat = condition([APPLE]), condition([CAT])
    wanted, unwanted = clean(apple, cat, 1.0), clean(cat, apple, 1.0)
    for scale in (0.0, 0.5, 3.0):
        expected = np.clip(unwanted + scale * (wanted - unwanted), -1, 1)
        unclipped = (np.abs(wanted) < 1) & (np.abs(unwanted) < 1)
        np.testing.assert_allclose(clean(apple, cat, scale)[unclipped], expected[unclipped], atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_picture_is_the_same_in_a_batch_as_alone(scale: float) -> None:
    wanted = [[APPLE], [CAT], [RED_APPLE]]
    together = clean(condition(*wanted), condition([], [], []), scale)
    alone = model.load().clean(noisy(3)[1:2], SIGMA, condition([CAT]), condition([]), scale)
    assert np.abs(together[1:2] - alone).max() <= 2 * 2 / 255
