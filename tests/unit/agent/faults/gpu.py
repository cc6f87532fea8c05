"""GPUs that tell what they did: the demo runtimes' drawing, watched. Jobs are told apart by their seeds."""

import io
from collections.abc import Sequence
from contextvars import ContextVar
from threading import Event
from typing import Any

from PIL import Image

from darkroom_demo.drawing import Pace, Picture, Preview, Sampling, StepCallback, generate
from tests.unit.agent.support import guidance_message, workflow


class PowerCutError(Exception):
    """The engine is dead, and what it ran with it."""


class Gpu:
    """One GPU: the seeds of its runs in their order. A run has begun with its first step."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.finished: list[int] = []


class Power:
    """What an engine needs to run on a GPU, until it is cut."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._is_cut = Event()

    def cut(self) -> None:
        """End what runs, and let nothing begin any more."""
        self._is_cut.set()

    def run(
        self, pictures: Sequence[Picture], sampling: Sampling, pace: Pace, on_step: StepCallback
    ) -> list[Image.Image]:
        """Draw as the demo does."""
        seed = pictures[0].seed

        def step(number: int, preview: Preview) -> None:
            self._check()
            if number == 1:
                self._gpu.begun.append(seed)
            if number == sampling.steps:
                self._gpu.finished.append(seed)
                _DRAWN.add((seed, preview().tobytes()))
            on_step(number, preview)

        self._check()
        return generate(pictures, sampling, pace, step)

    def _check(self) -> None:
        if self._is_cut.is_set():
            raise PowerCutError


#: Of the engine on whose behalf the code runs.
POWER: ContextVar[Power] = ContextVar("power")
#: Every picture that a run was through with, and its seed.
_DRAWN: set[tuple[int, bytes]] = set()


def watched(pictures: Sequence[Picture], sampling: Sampling, pace: Pace, on_step: StepCallback) -> list[Image.Image]:
    """Stands in for the demo's ``generate``: engines behind a proxy run on their GPU, others as ever."""
    power = POWER.get(None)
    return (power.run if power else generate)(pictures, sampling, pace, on_step)


def task_of(engine: str) -> str:
    """The kind of the jobs below."""
    return "pipeline" if engine == "comfyui" else "text-to-image"


def content(engine: str, seed: int, steps: int = 2) -> dict[str, Any]:
    """A small job."""
    if engine == "sdwebui":
        return {"prompt": f"lighthouse {seed}", "steps": steps, "width": 64, "height": 64, "seed": seed}
    nodes = workflow()
    nodes["3"]["inputs"].update(seed=seed, steps=steps)
    nodes["6"]["inputs"]["text"] = f"lighthouse {seed}"
    return nodes


def message(engine: str, seed: int, steps: int = 2) -> dict[str, Any]:
    """Its message, as clients of the AWS guidance publish it."""
    return guidance_message(content(engine, seed, steps), task_of(engine), label=f"job-{seed}")


def is_picture_of(data: bytes, seed: int) -> bool:
    """Whether a file is a finished picture of a job with this seed."""
    with Image.open(io.BytesIO(data)) as picture:
        return (seed, picture.convert("RGB").tobytes()) in _DRAWN
