from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from darkroom_demo.diffusion.denoiser import SIDE
from darkroom_demo.diffusion.layout import border, boxes, compose, tiles
from darkroom_demo.diffusion.words import MOST_THINGS

COUNTS = st.integers(1, MOST_THINGS)
SIDES = st.integers(16, 2048)
GREEN = (0, 128, 0)


@given(count=COUNTS, width=SIDES, height=SIDES)
def test_tiles_are_equal_squares_in_the_picture_that_do_not_overlap(count: int, width: int, height: int) -> None:
    placed = boxes(count, width, height)
    assert len(placed) == count
    assert len({right - left for left, _, right, _ in placed}) == 1
    for left, top, right, bottom in placed:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert right - left == bottom - top
    for one, other in combinations(placed, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@given(count=COUNTS, width=SIDES, height=SIDES)
def test_tiles_are_as_large_as_rows_of_squares_can_be(count: int, width: int, height: int) -> None:
    left, _, right, _ = boxes(count, width, height)[0]
    larger = right - left + 1
    assert (width // larger) * (height // larger) < count


@given(count=COUNTS, width=SIDES, height=SIDES)
def test_tiles_stand_in_the_middle(count: int, width: int, height: int) -> None:
    placed = boxes(count, width, height)
    for row in {box[1] for box in placed}:
        in_row = [box for box in placed if box[1] == row]
        assert abs(in_row[0][0] - (width - in_row[-1][2])) <= 1
    assert abs(placed[0][1] - (height - placed[-1][3])) <= 1


def test_two_things_are_side_by_side_in_a_wide_picture_and_one_below_the_other_in_a_tall_one() -> None:
    assert boxes(2, 512, 256) == [(0, 0, 256, 256), (256, 0, 512, 256)]
    assert boxes(2, 512, 512) == [(0, 128, 256, 384), (256, 128, 512, 384)]
    assert boxes(2, 256, 512) == [(0, 0, 256, 256), (0, 256, 256, 512)]


def test_three_things_in_a_square_leave_the_last_in_the_middle_of_its_row() -> None:
    assert boxes(3, 200, 200) == [(0, 0, 100, 100), (100, 0, 200, 100), (50, 100, 150, 200)]


@pytest.mark.parametrize("size", [(SIDE, SIDE), (2 * SIDE, SIDE)])
def test_a_picture_survives_being_seen_and_put_together_again(size: tuple[int, int]) -> None:
    shades = np.linspace(0, 255, size[0], dtype=np.uint8)[None, :, None]
    picture = Image.fromarray(np.broadcast_to(shades, (size[1], size[0], 3)).copy())
    places = boxes(size[0] // SIDE, *size)
    seen = tiles(picture, places)
    assert seen.shape == (len(places), SIDE, SIDE, 3)
    assert (seen.min(), seen.max()) == (-1, 1)
    again = np.asarray(compose(seen, places, picture), np.int16)
    assert np.abs(again - np.asarray(picture)).max() <= 1


def test_a_tile_passes_softly_into_what_is_behind_it() -> None:
    white = np.ones((1, SIDE, SIDE, 3), np.float32)
    behind = Image.new("RGB", (256, 128), GREEN)
    composed = compose(white, [(64, 0, 192, 128)], behind)
    across = [composed.getpixel((x, 64)) for x in range(256)]
    assert across[:64] == [GREEN] * 64
    assert across[192:] == [GREEN] * 64
    assert across[72:184] == [(255, 255, 255)] * 112
    reds = [pixel[0] for pixel in across[64:72] if isinstance(pixel, tuple)]
    assert reds == sorted(reds)
    assert 0 < reds[3] < 255
    assert behind.getpixel((128, 64)) == GREEN


def test_values_out_of_range_are_the_nearest_in_it() -> None:
    bright = np.full((1, SIDE, SIDE, 3), 1.5, np.float32)
    composed = compose(bright, [(0, 0, 64, 64)], Image.new("RGB", (64, 64)))
    assert composed.getpixel((32, 32)) == (255, 255, 255)


def test_the_border_is_the_colour_around_a_picture() -> None:
    picture = Image.new("RGB", (SIDE, SIDE), (51, 102, 204))
    picture.paste((255, 0, 0), (20, 20, 76, 76))
    assert border(tiles(picture, [(0, 0, SIDE, SIDE)])) == pytest.approx((0.2, 0.4, 0.8), abs=0.01)
