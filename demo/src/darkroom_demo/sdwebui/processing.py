"""Runs one txt2img or img2img request, as modules/processing.py of the web UI does.

Blocks, so it is called from a thread, and by one caller at a time: who calls it holds the queue lock. Changes the
state, while it runs the options too, and writes saved images into its folder.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from darkroom_demo.catalog import CHECKPOINTS, WEBUI_SAMPLERS, webui_schedule
from darkroom_demo.diffusion.schedules import sigmas
from darkroom_demo.drawing import Pace, Picture, Sampling, Tempo, generate, png
from darkroom_demo.sdwebui.images import final_size, grid
from darkroom_demo.sdwebui.request import Job, decode_image, fixed_seeds
from darkroom_demo.sdwebui.state import State
from darkroom_demo.sdwebui.tasks import Tasks


@dataclass(frozen=True)
class Task:
    """A request whose names are checked; `initial` has the images that it starts from, still encoded."""

    id: str
    kind: Literal["txt2img", "img2img"]
    parameters: Mapping[str, Any]
    sampler: str
    scheduler: str
    initial: tuple[Any, ...] = ()
    mask: Image.Image | None = None


@dataclass(frozen=True)
class Processor:
    """What requests share."""

    state: State
    tasks: Tasks
    options: dict[str, Any]
    tempo: Tempo
    folder: Path

    def run(self, task: Task) -> tuple[list[Image.Image], str]:
        """Return the images of the response, a grid first where there is one, and its `info`."""
        initial = [decode_image(encoded) for encoded in task.initial]
        parameters = task.parameters
        self.state.begin(f"scripts_{task.kind}")
        try:
            self.tasks.start(task.id)
            with self._overridden(parameters):
                made = self._made(task, initial)
            self.tasks.finish(task.id)
        finally:
            self.state.end()
        return made

    def _made(self, task: Task, initial: list[Image.Image]) -> tuple[list[Image.Image], str]:
        job = self._job(task)
        drawn = self._draw(job, initial, task.mask)
        for index, image in enumerate(drawn):
            image.info["parameters"] = job.infotext(index)
        if task.parameters["save_images"]:
            self._save(task.kind, job, drawn)
            # Without saving the API asks for no grid either.
            if len(drawn) > 1:
                return [grid(drawn), *drawn], job.info(len(drawn), 1)
        return drawn, job.info(len(drawn), 0)

    def override(self, settings: Mapping[str, Any]) -> None:
        """Set options; an unknown checkpoint is left out silently, as the web UI does for a request."""
        known = {key: value for key, value in settings.items() if key != "sd_model_checkpoint"}
        name = checkpoint(settings.get("sd_model_checkpoint"))
        self.options.update(known | ({"sd_model_checkpoint": name} if name else {}))

    @contextmanager
    def _overridden(self, parameters: Mapping[str, Any]) -> Iterator[None]:
        settings = parameters["override_settings"] or {}
        stored = {key: self.options[key] for key in settings if key in self.options}
        self.override(settings)
        try:
            yield
        finally:
            if parameters["override_settings_restore_afterwards"]:
                self.options.update(stored)

    def _job(self, task: Task) -> Job:
        parameters = task.parameters
        width, height = final_size(parameters)
        count = parameters["batch_size"] * parameters["n_iter"]
        return Job(
            parameters=parameters,
            sampler=task.sampler,
            scheduler=task.scheduler,
            checkpoint=self.options["sd_model_checkpoint"],
            # With a variation all pictures share the seed and differ in the subseed.
            seeds=fixed_seeds(parameters["seed"], count, step=0 if parameters["subseed_strength"] else 1),
            subseeds=fixed_seeds(parameters["subseed"], count),
            width=width,
            height=height,
            timestamp=self.state.job_timestamp,
        )

    def _draw(self, job: Job, initial: list[Image.Image], mask: Image.Image | None) -> list[Image.Image]:
        values = job.parameters
        sampler = WEBUI_SAMPLERS[job.sampler].sampler
        levels = sigmas(sampler, webui_schedule(job.sampler, job.scheduler), values["steps"])
        if "init_images" in values:
            if not 0 < len(initial) <= values["batch_size"]:
                limit = f"expecting {values['batch_size']} or less"
                raise RuntimeError(f"bad number of images passed: {len(initial)}; {limit}")
            # modules/sd_samplers_common.py, setup_img2img_steps: only the last share of the steps is run.
            steps = int(min(values["denoising_strength"], 0.999) * values["steps"]) + 1
            levels = levels[-(steps + 1) :]
        sampling = Sampling(sampler, levels, values["cfg_scale"])
        state, size = self.state, values["batch_size"]
        state.job_count, state.sampling_steps = values["n_iter"], sampling.steps
        drawn: list[Image.Image] = []
        for number in range(values["n_iter"]):
            if state.skipped:
                state.skipped = False
                state.stop.clear()
            if state.interrupted:
                break
            if values["n_iter"] > 1:
                state.job = f"Batch {number + 1} out of {values['n_iter']}"
            indexes = range(number * size, (number + 1) * size)
            batch = [_picture(job, index, initial, mask) for index in indexes]
            drawn += generate(batch, sampling, Pace(self.tempo, state.stop), state.stepped)
            state.job_no += 1
            state.sampling_step = 0
        return drawn

    def _save(self, kind: str, job: Job, images: list[Image.Image]) -> None:
        folder = self.folder / f"{kind}-images" / datetime.now(UTC).strftime("%Y-%m-%d")
        folder.mkdir(parents=True, exist_ok=True)
        first = len(list(folder.iterdir()))
        for index, image in enumerate(images):
            path = folder / f"{first + index:05}-{job.seeds[index]}.png"
            path.write_bytes(png(image, {"parameters": job.infotext(index)}))


def checkpoint(name: Any) -> str | None:
    """Return the checkpoint of that file name, or file name without its ending; None if there is none."""
    return next((known for known in CHECKPOINTS if name in {known, Path(known).stem}), None)


def _picture(job: Job, index: int, initial: list[Image.Image], mask: Image.Image | None) -> Picture:
    values = job.parameters
    return Picture(
        prompt=values["prompt"] or "",
        negative_prompt=values["negative_prompt"] or "",
        seed=job.seeds[index],
        width=job.width,
        height=job.height,
        subseed=job.subseeds[index],
        subseed_strength=values["subseed_strength"] or 0.0,
        initial=initial[index % len(initial)] if initial else None,
        mask=mask,
    )
