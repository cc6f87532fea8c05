"""The description of a model runtime: ``clusters/<cluster>/runtimes/<name>/runtime.yaml``, key ``runtime``. Pure."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, JsonValue, ValidationInfo, field_validator, model_validator

from darkroom_contract.engines import is_own_variable, is_variable, own_options
from darkroom_contract.gpus import Capacity, Gpu
from darkroom_contract.rules import Grammar, within
from darkroom_contract.types import IMAGE_BY_DIGEST, Description, Engine, JsonObject

Checkpoint = Annotated[str, Field(min_length=1, max_length=256)]

#: The fields that only one engine has a use for, and why.
ONE_ENGINE_ONLY = {
    "dynamic_checkpoint": (Engine.SDWEBUI, "a ComfyUI workflow loads the models that it names"),
    "custom_nodes": (Engine.COMFYUI, "the web UI has no nodes"),
    "allowed_nodes": (Engine.COMFYUI, "the web UI has no nodes"),
    "denied_nodes": (Engine.COMFYUI, "the web UI has no nodes"),
}

#: Linux's limit of one environment variable with its name (execve(2), MAX_ARG_STRLEN), and some room for the name.
_MAX_VARIABLE_BYTES = 128 * 1024 - 1024

_SEGMENT = r"[^/.\s,\\\x00-\x1f][^/,\\\x00-\x1f]*"
_Folder = Annotated[
    str,
    Grammar(
        f"{_SEGMENT}(/{_SEGMENT})*",
        "a folder in the models volume, sdxl/loras say: no slash at its beginning or end, nothing that begins with a "
        "dot, no comma",
        200,
    ),
]
#: What ComfyUI takes for models (``supported_pt_extensions`` in folder_paths.py). The web UI loads what it is told to.
_ENDINGS = ("safetensors", "sft", "ckpt", "pt", "pt2", "pth", "bin", "pkl")
_File = Annotated[
    Checkpoint,
    Grammar(
        r"[^/.\s\\\x00-\x1f][^/\\\x00-\x1f]*(/[^/.\s\\\x00-\x1f][^/\\\x00-\x1f]*)*"
        rf"\.({'|'.join(_ENDINGS)})",
        "a file in the folder checkpoints/ of the models volume, sdxl/turbo.safetensors say: no slash at its "
        f"beginning, nothing that begins with a dot, and one of the endings .{', .'.join(_ENDINGS)}",
        256,
    ),
]
_Host = Annotated[
    str,
    Grammar(
        r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+",
        "a host, pictures.example.com, or all under a domain, *.example.com: lower case, without scheme and port",
        253,
    ),
]
_NodeClass = Annotated[
    str, Grammar(r"[^\s,]([^,\r\n]*[^\s,])?", "the name of a node class, or a pattern such as Load*; no comma", 200)
]
_NodeClasses = Annotated[tuple[_NodeClass, ...], Field(max_length=500)]
_Argument = Annotated[str, Field(min_length=1, max_length=1000)]
_Image = Annotated[
    str,
    Grammar(
        IMAGE_BY_DIGEST,
        "an image by its digest, without a tag: <registry>/<repository>@sha256:<64 hex digits>",
        512,
    ),
]


def _number_as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if is_number else value


_CPU = r"([1-9][0-9]{0,2}|[0-9]{1,3}\.[0-9]{1,3}|[1-9][0-9]{0,5}m)"
_Cpu = Annotated[
    str,
    Grammar(_CPU, "a number of cores: 4, 3.5 or 3500m", 7),
    BeforeValidator(_number_as_text, json_schema_input_type=str | float),
]
_Memory = Annotated[str, Grammar("[1-9][0-9]{0,6}(Mi|Gi)", "an amount of memory in Mi or Gi: 12Gi", 9)]


class Scaling(Description):
    """How many pods a runtime has, and when."""

    min_pods: Annotated[int, Field(ge=0, le=1000)] = 0
    """Pods that are there even if nothing waits, each with a GPU that is paid for. 0, when absent: none."""
    max_pods: Annotated[int, Field(ge=1, le=1000)] = 4
    """The most pods at a time, each with one GPU; 4 when absent. The pool's ``maxGpus`` bounds all runtimes on it."""
    start_within_seconds: Annotated[int, Field(ge=1, le=43200)] = 60
    """How soon the engine should begin a job that waits behind others, once pods are up: shorter is more pods for the
    same queue. 60 when absent."""
    seconds_per_picture: Annotated[float, Field(gt=0, le=14400)] | None = None
    """How long a usual job takes on the GPU. Absent: a guess for the GPU's class."""
    cooldown_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """How long the last pod stays when nothing is left to do: the next job within that time starts warm, and it is
    paid for. 300 when absent."""
    polling_seconds: Annotated[int, Field(ge=1, le=300)] = 5
    """How often the queue is looked at while there is no pod. 5 when absent; 1 costs 84 cents a month more."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min_pods > self.max_pods:
            raise within(
                "minPods",
                f"{self.min_pods} are more than maxPods, which is {self.max_pods}: lower minPods or raise maxPods",
            )
        return self


class Resources(Description):
    """What the engine's container asks for beside its GPU. What is absent is the default of the GPU's class."""

    cpu: _Cpu | None = None
    """Cores: ``4``, ``3.5`` or ``3500m``."""
    memory: _Memory | None = None
    """Memory: ``12Gi``. It should hold the largest model, and leave room on the machine."""
    outputs_gib: Annotated[int, Field(ge=1, le=1000)] | None = None
    """The most that the engine's folder for outputs holds, in GiB."""

    @property
    def cores(self) -> float:
        """The cores as a number; 0 if it is the default."""
        cpu = self.cpu or "0"
        return float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)

    @property
    def memory_gib(self) -> float:
        """The memory in GiB; 0 if it is the default."""
        memory = self.memory or "0Gi"
        return int(memory[:-2]) / (1024 if memory.endswith("Mi") else 1)


class Runtime(Description):
    """One model runtime. Its name is its folder's."""

    engine: Engine
    """The software that runs the model."""
    accepting: bool = True
    """Whether new jobs are taken. Set it to false, and let the queue drain, before the folder is removed."""
    checkpoint: _File | None = None
    """The model's file, as the engine names it: at most 256 characters. ComfyUI's workflows name their own."""
    default_for_checkpoint: bool = True
    """Whether v1alpha1 requests that name this checkpoint come to this runtime. One runtime a checkpoint may."""
    dynamic_checkpoint: bool = False
    """Whether a job may have another checkpoint loaded first (web UI only)."""
    gpu: Gpu = Gpu.G5
    """The class of GPU; the cluster has to have a pool of it (``gpuNodes``). ``g5`` when absent."""
    capacity: Capacity = Capacity.ANY
    """Which nodes of the pool: Spot ones, On-Demand ones, or ``any``, when absent. Spot ones may be taken back within
    two minutes; what was running is then run again elsewhere."""
    scaling: Scaling = Scaling()
    """How many pods, and when: none to four when absent."""
    args: Annotated[tuple[_Argument, ...], Field(max_length=100)] = ()
    """Further arguments of the engine, one an item: ``[--no-half-vae]``."""
    env: dict[str, str] = {}
    """Further environment variables of the engine. No secrets: they are in Git."""
    loras: _Folder = "loras"
    """The folder of the LoRAs in the models volume: ``loras`` when absent."""
    custom_nodes: _Folder | None = None
    """The folder in the models volume with a set of custom nodes, ``custom_nodes/video`` say (ComfyUI only): none when
    absent. They run with all that the engine may do."""
    warmup: JsonObject | None = None
    """A job in the engine's own form, that is run before any other when the engine has come up: a prompt's payload for
    the web UI, a workflow for ComfyUI."""
    input_hosts: Annotated[tuple[_Host, ...], Field(max_length=100)] = ()
    """The only hosts that input pictures are fetched from: ``[pictures.example.com, "*.example.org"]``. Any public one
    when absent."""
    allowed_nodes: _NodeClasses = ()
    """The only node classes that workflows may have, as names or patterns (ComfyUI only): all when absent."""
    denied_nodes: _NodeClasses = ()
    """Node classes that workflows may not have, allowed or not (ComfyUI only)."""
    resources: Resources = Resources()
    """What the engine's container asks for beside its GPU: the default of the GPU's class when absent."""
    image: _Image | None = None
    """Another image of the engine, by digest: the cluster's (``images.yaml``) when absent."""
    job_timeout_seconds: Annotated[int, Field(ge=30, le=14400)] = 900
    """The longest that a job may run on the GPU, in seconds. Below SQS's twelve hours."""
    max_starts: Annotated[int, Field(ge=1, le=10)] = 3
    """How many times a GPU may begin a job before it counts as failed."""

    @field_validator(*ONE_ENGINE_ONLY)
    @classmethod
    def _suits_engine(cls, value: Any, info: ValidationInfo) -> Any:
        suits, reason = ONE_ENGINE_ONLY[str(info.field_name)]
        engine = info.data.get("engine")
        if value and engine and engine is not suits:
            raise ValueError(f"it is for {suits}, since {reason}: leave it out")
        return value

    @field_validator("checkpoint")
    @classmethod
    def _is_named_within_its_folder(cls, checkpoint: str | None) -> str | None:
        if checkpoint and (name := checkpoint.removeprefix("checkpoints/")) != checkpoint:
            raise ValueError(f"name it as it is in checkpoints/: {name}")
        return checkpoint

    @field_validator("args")
    @classmethod
    def _leaves_darkroom_its_options(cls, arguments: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        engine = info.data.get("engine")
        if engine and (own := own_options(engine, arguments)):
            raise ValueError(f"Darkroom sets what the engine listens on and where its files are: leave out {_all(own)}")
        return arguments

    @field_validator("env")
    @classmethod
    def _leaves_darkroom_its_variables(cls, variables: dict[str, str]) -> dict[str, str]:
        if wrong := [name for name in variables if not is_variable(name)]:
            raise ValueError(f"a variable's name has letters, digits and underscores alone: {_all(wrong)}")
        if own := [name for name in variables if is_own_variable(name)]:
            raise ValueError(f"Darkroom or Kubernetes sets it by itself: leave out {_all(own)}")
        for name, value in variables.items():
            _check_variable(name, value)
        return variables

    @field_validator("warmup")
    @classmethod
    def _fits_a_variable(cls, warmup: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if warmup is not None:
            _check_variable("WARMUP", json.dumps(warmup))
        return warmup

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        usual = self.scaling.seconds_per_picture
        if usual is not None and usual > self.job_timeout_seconds:
            raise within(
                "scaling.secondsPerPicture",
                f"a usual job would not end within jobTimeoutSeconds, which is {self.job_timeout_seconds}",
            )
        return self


def _all(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _check_variable(name: str, value: str) -> None:
    """Refuse what no environment variable can hold."""
    if len(value.encode(errors="replace")) > _MAX_VARIABLE_BYTES or "\0" in value:
        raise ValueError(f"{name} is too long for an environment variable, or has a zero byte: at most 127 KiB")
