"""The grammar of ids, names and values that every other model is built from. Pure."""

import math
import operator
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from darkroom_contract.rules import LABEL, Grammar

DEFAULT_TENANT = "default"
#: The type of the error of a field that is fine by itself, but has no meaning beside another; it has words of its own.
NEEDLESS = "needless"


class Model(BaseModel):
    """A value that never changes and has no fields but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fact(BaseModel):
    """A value read from a place that a newer version may have written: fields that it does not know are ignored."""

    # Errors name the field but not its value: they are logged, and a value may be a prompt.
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    def to_json(self) -> str:
        """Compact JSON without the fields that have no value; ASCII only when its strings are."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Description(Model):
    """What people write in YAML: camelCase, every field checked."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True)


class Task(StrEnum):
    """What a runtime is asked to do."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    EXTRA_SINGLE_IMAGE = "extra-single-image"
    EXTRA_BATCH_IMAGES = "extra-batch-images"
    PIPELINE = "pipeline"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # The AWS guidance's queue agent spells it so.
        return cls("extra-batch-images") if value == "extra-batch-image" else None


class Engine(StrEnum):
    """The software that a runtime runs: AUTOMATIC1111's web UI or ComfyUI."""

    SDWEBUI = "sdwebui"
    COMFYUI = "comfyui"

    def runs(self, task: Task) -> bool:
        """Whether the engine can run the task: ComfyUI runs workflows, the web UI everything else."""
        return (task is Task.PIPELINE) == (self is Engine.COMFYUI)


class PictureFormat(StrEnum):
    """The file formats that pictures can be had in."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"


class OutputFormat(Model):
    """The file format that a client wants its pictures in."""

    format: PictureFormat
    #: 1 to 100; WebP at 100 is without loss. None: as good as the agent finds fitting, and what is already in the
    #: format stays byte for byte.
    quality: Annotated[int, Field(ge=1, le=100, strict=True)] | None = None

    @field_validator("quality")
    @classmethod
    def _lossy(cls, quality: int | None, info: ValidationInfo) -> int | None:
        if quality is not None and info.data.get("format") is PictureFormat.PNG:
            raise PydanticCustomError(NEEDLESS, "PNG has no quality: leave it out")
        return quality


def _finite_unicode(value: Any) -> Any:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("a number in it is not finite")
        elif isinstance(item, str) and not item.isascii() and not _is_unicode(item):
            raise ValueError("a text in it has half of a surrogate pair; send well-formed Unicode")
    return value


def _context(value: Any) -> Any:
    return {} if value is None else _finite_unicode(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _safe_prefix(prefix: str) -> str:
    segments = prefix.removesuffix("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError("a prefix is segments joined by single slashes; none may be empty, '.' or '..'")
    return "/".join(segments)


def distinct(complaint: str, of: Callable[[Any], Hashable] = lambda item: item) -> AfterValidator:
    """Refuse a tuple in which two items are the same, or have the same of what ``of`` takes from them."""

    def check(items: tuple[Any, ...]) -> tuple[Any, ...]:
        if len({of(item) for item in items}) < len(items):
            raise ValueError(complaint)
        return items

    return AfterValidator(check)


def utcnow() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


_LABEL = f"^{LABEL.pattern}$"

#: A job's id, and a client's label for one. Part of S3 keys.
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
#: A runtime's name: a DNS label short enough for every AWS name that is built from it (IAM roles: 64 characters).
RuntimeName = Annotated[str, StringConstraints(pattern=_LABEL)]
TenantName = Annotated[str, StringConstraints(pattern=_LABEL)]
#: What a description calls something: a runtime, a tenant, one of its keys (a field of its Secret), a subscriber.
Label = Annotated[str, LABEL]
#: A cluster's name has no hyphen, so that no cluster's AWS names begin with another's name and hyphen.
ClusterName = Annotated[
    str, Grammar("[a-z][a-z0-9]{0,19}", "at most 20 lower-case letters and digits, beginning with a letter", 20)
]
#: Where a job's pictures go in the output bucket: S3's safe characters (User Guide, "Object key naming guidelines").
Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!_.*'()=@+/-]{1,512}$"), AfterValidator(_safe_prefix)]
AccountId = Annotated[str, Grammar("[0-9]{12}", "the twelve digits of an AWS account, in quotes", 12)]
Region = Annotated[str, Grammar("[a-z]{2}(-[a-z]+){1,2}-[0-9]", "a region of AWS, us-east-1 say", 25)]
#: An image by its digest, without a tag: it cannot change. Lambda and Kubernetes both take it so.
IMAGE_BY_DIGEST = r"([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9][a-z0-9._/-]*@sha256:[0-9a-f]{64}"
BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
S3Url = Annotated[str, StringConstraints(pattern=r"^s3://[^/]+/.+$")]
Timestamp = AwareDatetime
#: An object of finite numbers and well-formed strings.
JsonObject = Annotated[dict[str, JsonValue], BeforeValidator(_finite_unicode)]
#: What a client wants back in the notification, unchanged. Null is the same as none.
Context = Annotated[JsonValue, BeforeValidator(_context)]

# Fields that are written only when they say something: a request without them keeps its fingerprint, and messages and
# notifications of the AWS guidance's clients look as they did.

IF_ANY = Field(exclude_if=operator.not_)

#: The format that the client wants its pictures in. None: as the engine makes them.
Output = Annotated[OutputFormat | None, IF_ANY]
#: Whether the client wants a notification when its job begins, too.
NotifyRunning = Annotated[bool, Field(strict=True), IF_ANY]
#: How long a job took: ``wait`` (from the submission until the engine began it), ``fetch`` (its input pictures, within
#: the wait), ``generate``, ``upload`` (its pictures, converted where that was asked for), and ``total`` from the
#: submission to the result.
Seconds = Annotated[dict[str, float], IF_ANY]
