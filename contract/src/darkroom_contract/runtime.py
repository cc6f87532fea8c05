"""The description of a model runtime: ``clusters/<cluster>/runtimes/<name>/runtime.yaml``, key ``runtime``. Pure."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from darkroom_contract.types import Description, Engine

Checkpoint = Annotated[str, Field(min_length=1, max_length=256)]


class Runtime(Description):
    """One model runtime. Its name is its folder's."""

    engine: Engine
    """The software that runs the model."""
    accepting: bool = True
    """Whether new jobs are taken. Set it to false, and let the queue drain, before the folder is removed."""
    checkpoint: Checkpoint | None = None
    """The model's file, as the engine names it: at most 256 characters. ComfyUI's workflows name their own."""
    default_for_checkpoint: bool = True
    """Whether v1alpha1 requests that name this checkpoint come to this runtime. One runtime a checkpoint may."""
    dynamic_checkpoint: bool = False
    """Whether a job may have another checkpoint loaded first (web UI only)."""
    job_timeout_seconds: Annotated[int, Field(ge=30, le=14400)] = 900
    """The longest that a job may run on the GPU, in seconds. Below SQS's twelve hours."""
    max_starts: Annotated[int, Field(ge=1, le=10)] = 3
    """How many times a GPU may begin a job before it counts as failed."""

    @model_validator(mode="after")
    def _checkpoint_suits_engine(self) -> Self:
        if self.engine is Engine.COMFYUI and self.dynamic_checkpoint:
            raise ValueError("dynamicCheckpoint is for the web UI: a ComfyUI workflow loads the models that it names")
        return self
