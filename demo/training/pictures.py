"""Pictures as the demo's engines draw them, for who judges them. Needs neither the emoji nor torch."""

from collections.abc import Sequence
from threading import Event

from PIL import Image

from darkroom_demo.diffusion.schedules import sigmas
from darkroom_demo.drawing import Pace, Picture, Sampling, Tempo, generate

FIRST_SEED = 1
#: What clients ask for most.
EULER_A = Sampling("euler_ancestral", sigmas("euler_ancestral", "normal", 20), cfg_scale=7.0)


def draw(prompts: Sequence[str], side: int, sampling: Sampling = EULER_A) -> list[Image.Image]:
    """Draw a square picture of so many pixels for each prompt, all at once, each with a seed of its own."""
    asked = [Picture(prompt, "", FIRST_SEED + number, side, side) for number, prompt in enumerate(prompts)]
    return generate(asked, sampling, Pace(Tempo(), Event()), lambda _number, _preview: None)
