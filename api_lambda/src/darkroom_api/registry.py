"""The runtimes that there are, and their workflows, as S3 holds them, cached for each execution environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from darkroom_api.errors import AWS_ERRORS
from darkroom_api.telemetry import logger
from darkroom_contract.names import REGISTRY_PREFIX, registry_key, workflow_key
from darkroom_contract.registry import RegistryEntry
from darkroom_contract.workflows import Workflow

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: How long what was found is believed, and how long what was not: a new runtime is known soon. Seconds.
HIT_SECONDS = 30
MISS_SECONDS = 5
#: Names that clients made up must not fill the memory. A workflow may take two megabytes of it.
_MAX_ENTRIES = 1000
_MAX_WORKFLOWS = 20

_Model = TypeVar("_Model", bound=BaseModel)


class _Cache(Generic[_Model]):
    """What was found under at most so many keys. It raises botocore's errors only for what it has never seen."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._found: dict[str, tuple[float, tuple[_Model, ...]]] = {}

    def find(
        self, key: str, read: Callable[[], Iterator[_Model]], wanted: Callable[[_Model], bool] = lambda _: True
    ) -> _Model | None:
        """The first under a key that is wanted, or None; ``read`` finds all that are there."""
        now = self._clock()
        read_at, items = self._found.get(key, (float("-inf"), ()))
        found = next(filter(wanted, items), None)
        if now - read_at < (HIT_SECONDS if found else MISS_SECONDS):
            return found
        try:
            items = tuple(read())
        except AWS_ERRORS:
            if found is None:
                raise
            logger.warning("the registry cannot be read; what was read before is used", exc_info=True)
            return found
        if len(self._found) >= self._most:
            self._found.clear()
        self._found[key] = now, items
        return next(filter(wanted, items), None)


class Registry:
    """The runtimes in one bucket. Raises botocore's errors only for a runtime or a workflow that it has never seen."""

    def __init__(self, s3: S3Client, bucket: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._entries: _Cache[RegistryEntry] = _Cache(_MAX_ENTRIES, clock)
        self._workflows: _Cache[Workflow] = _Cache(_MAX_WORKFLOWS, clock)

    def by_name(self, name: str) -> RegistryEntry | None:
        """The runtime of a name, or None."""
        key = registry_key(name)
        return self._entries.find(key, lambda: self._read(key, RegistryEntry), lambda entry: entry.name == name)

    def by_checkpoint(self, checkpoint: str) -> RegistryEntry | None:
        """The runtime that serves v1alpha1 requests for a checkpoint, or None."""
        return self._entries.find(REGISTRY_PREFIX, self._read_all, lambda entry: entry.checkpoint == checkpoint)

    def workflow(self, runtime: str, name: str) -> Workflow | None:
        """A runtime's workflow of a name, or None."""
        key = workflow_key(runtime, name)
        return self._workflows.find(key, lambda: self._read(key, Workflow))

    def _read_all(self) -> Iterator[RegistryEntry]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=REGISTRY_PREFIX)
        for page in pages:
            for listed in page.get("Contents", []):
                yield from self._read(listed["Key"], RegistryEntry)

    def _read(self, key: str, model: type[_Model]) -> Iterator[_Model]:
        """What is at a key; nothing when there is no object, or it is not of the model."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except self._s3.exceptions.NoSuchKey:
            return
        try:
            # A newer version of the composition may have written more fields.
            yield model.model_validate_json(answer["Body"].read(), extra="ignore")
        except ValidationError:
            logger.exception("an entry of the registry does not parse; it counts as none", extra={"key": key})
