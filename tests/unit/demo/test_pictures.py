"""What the model draws looks like what it was asked for: its thumbnail is nearest to that of the thing's emoji.

After new weights: `make train` writes the thumbnails, `pytest -n 0 tests/unit/demo/test_pictures.py` compares.
"""

from pathlib import Path

import darkroom_demo.diffusion
from darkroom_demo.diffusion.denoiser import SIDE
from darkroom_demo.diffusion.model import WEIGHTS
from darkroom_demo.diffusion.schedules import sigmas
from darkroom_demo.diffusion.things import THINGS
from darkroom_demo.drawing import Sampling
from training import thumbnails
from training.pictures import draw

FILE = Path(__file__).with_name("thumbnails.npz")
FEW_STEPS = Sampling("euler", sigmas("euler", "normal", 10), cfg_scale=7.0)


def test_nine_of_ten_pictures_are_nearest_to_what_their_prompts_name() -> None:
    of_all = thumbnails.load(FILE)
    asked = list(THINGS)[::10]
    drawn = draw([f"{thing} on {thumbnails.BACKDROP} background" for thing in asked], SIDE, FEW_STEPS)
    nearest = {
        thing: thumbnails.nearest(thumbnails.thumbnail(picture), of_all)
        for thing, picture in zip(asked, drawn, strict=True)
    }
    wrong = {thing: other for thing, other in nearest.items() if other != thing}
    assert len(wrong) <= len(asked) / 10, wrong


def test_there_is_a_thumbnail_of_every_thing_and_all_differ() -> None:
    of_all = thumbnails.load(FILE)
    assert of_all.shape == (len(THINGS), thumbnails.SIDE, thumbnails.SIDE, 3)
    assert [thumbnails.nearest(each, of_all) for each in of_all] == list(THINGS)


def test_the_weights_are_small_and_have_the_notice_of_what_they_learnt_from_beside_them() -> None:
    weights = Path(darkroom_demo.diffusion.__path__[0], WEIGHTS)
    assert weights.stat().st_size <= 4_000_000
    assert "Copyright (c) Microsoft Corporation" in weights.with_name("LICENSE-emoji").read_text()
