"""The runtimes that there are, as S3 holds them, cached for each execution environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from darkroom_api.errors import AWS_ERRORS
from darkroom_api.telemetry import logger
from darkroom_contract.names import REGISTRY_PREFIX, registry_key
from darkroom_contract.registry import RegistryEntry

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: How long what was found is believed, and how long what was not: a new runtime is known soon. Seconds.
HIT_SECONDS = 30
MISS_SECONDS = 5
#: Names that clients made up must not fill the memory.
_MAX_CACHED = 1000

_Entries = tuple[RegistryEntry, ...]


class Registry:
    """The runtimes in one bucket. Raises botocore's errors only for a runtime that it has never seen."""

    def __init__(self, s3: S3Client, bucket: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._clock = clock
        self._cache: dict[str, tuple[float, _Entries]] = {}

    def by_name(self, name: str) -> RegistryEntry | None:
        """The runtime of a name, or None."""
        key = registry_key(name)
        return self._find(key, lambda: self._read(key), lambda entry: entry.name == name)

    def by_checkpoint(self, checkpoint: str) -> RegistryEntry | None:
        """The runtime that serves v1alpha1 requests for a checkpoint, or None."""
        return self._find(REGISTRY_PREFIX, self._read_all, lambda entry: entry.checkpoint == checkpoint)

    def _find(
        self, key: str, read: Callable[[], Iterator[RegistryEntry]], wanted: Callable[[RegistryEntry], bool]
    ) -> RegistryEntry | None:
        now = self._clock()
        read_at, entries = self._cache.get(key, (float("-inf"), ()))
        found = next(filter(wanted, entries), None)
        if now - read_at < (HIT_SECONDS if found else MISS_SECONDS):
            return found
        try:
            entries = tuple(read())
        except AWS_ERRORS:
            if found is None:
                raise
            logger.warning("the registry cannot be read; an older entry is used", exc_info=True)
            return found
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[key] = now, entries
        return next(filter(wanted, entries), None)

    def _read_all(self) -> Iterator[RegistryEntry]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=REGISTRY_PREFIX)
        for page in pages:
            for listed in page.get("Contents", []):
                yield from self._read(listed["Key"])

    def _read(self, key: str) -> Iterator[RegistryEntry]:
        """The entry at a key; none when there is no object, or it is no entry."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except self._s3.exceptions.NoSuchKey:
            return
        try:
            yield RegistryEntry.model_validate_json(answer["Body"].read())
        except ValidationError:
            logger.exception("an entry of the registry does not parse; its runtime is unknown", extra={"key": key})
