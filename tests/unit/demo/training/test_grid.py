"""The grid in docs/ shows what the demo understands."""

import pytest

from darkroom_demo.diffusion.words import read
from training.grid import COLUMNS, PROMPTS


def test_the_grid_has_64_prompts_and_none_twice() -> None:
    assert len(PROMPTS) == len(set(PROMPTS)) == COLUMNS * 8


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_of_the_grid_is_understood_wholly(prompt: str) -> None:
    scene = read(prompt)
    assert scene.things
    assert not scene.unknown
    assert not scene.left_out
