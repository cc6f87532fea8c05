"""Brings a job's input pictures: from HTTPS, from S3, or out of base64. Touches input fields alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from darkroom_agent.aws import AWS_ERRORS, is_passing, status_of
from darkroom_agent.errors import InputMissingError, InputRefusedError, InputUnavailableError, JobFailedError
from darkroom_agent.fetcher import MAX_BYTES, Fetcher, SecondsLeft
from darkroom_agent.media import INPUT_TYPES, media_type
from darkroom_agent.settings import Settings
from darkroom_contract import names
from darkroom_contract.inputs import InputField, decoded, input_fields, replace_inputs
from darkroom_contract.job import Job
from darkroom_contract.types import DEFAULT_TENANT, Task

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

#: For all inputs of one job together.
MAX_JOB_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


class Inputs:
    """The input pictures of jobs."""

    def __init__(self, fetcher: Fetcher, s3: S3Client, settings: Settings) -> None:
        self._fetcher = fetcher
        self._s3 = s3
        self._output_bucket = settings.output_bucket
        self._input_buckets = settings.input_buckets
        self._tenants = settings.tenants

    def attach(self, job: Job, attach: Callable[[bytes], str], seconds_left: SecondsLeft = lambda: math.inf) -> Job:
        """The job with its pictures as the engine takes them; ``attach`` gives the value that stands for a picture.

        Raises an input's ``JobFailedError``, which names the field, and whatever ``attach`` and ``seconds_left`` raise.
        """
        values: dict[InputField, str] = {}
        size = 0
        for field in input_fields(job.task, job.content):
            if job.task is Task.PIPELINE and not (field.is_url or field.is_data_url):
                continue  # the name of a file on the runtime
            seconds_left()
            try:
                picture = self._load(field.value, job.tenant, seconds_left)
                size += len(picture)
                if size > MAX_JOB_BYTES:
                    raise InputRefusedError(f"the inputs are larger than {MAX_JOB_BYTES} bytes together")
            except JobFailedError as error:
                error.field = field.name
                raise
            values[field] = attach(picture)
        seconds_left()
        return job.model_copy(update={"content": replace_inputs(job.content, values)}) if values else job

    def _load(self, value: str, tenant: str, seconds_left: SecondsLeft) -> bytes:
        """The picture that a value names or is."""
        if value.startswith("s3://"):
            picture = self._from_s3(value, tenant, seconds_left)
        elif value.startswith(("https://", "http://")):
            picture = self._fetcher.fetch(value, seconds_left)
        else:
            picture = _from_base64(value)
        if media_type(picture).name not in INPUT_TYPES:
            raise InputRefusedError("the input is not a PNG, JPEG, WebP, GIF or BMP picture")
        return picture

    def _from_s3(self, url: str, tenant: str, seconds_left: SecondsLeft) -> bytes:
        bucket, key = names.split_s3_url(url)
        if not self._may_read(bucket, key, tenant):
            raise InputRefusedError("the s3:// URL is outside the buckets and folders that the tenant may read")
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                if answer["ContentLength"] > MAX_BYTES:
                    raise InputRefusedError(f"the input is larger than {MAX_BYTES} bytes")
                data = bytearray()
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    seconds_left()
                    data += chunk
                return bytes(data)
        except AWS_ERRORS as error:
            if is_passing(error) or not isinstance(error, ClientError):
                raise InputUnavailableError("S3 does not give the input now") from error
            code = error.response["Error"]["Code"]
            raise InputMissingError(f"S3 answers {status_of(error)} {code} for the input") from error

    def _may_read(self, bucket: str, key: str, tenant: str) -> bool:
        if bucket != self._output_bucket:
            return bucket in self._input_buckets
        folder = key.partition("/")[0]
        return folder not in self._tenants or folder == DEFAULT_TENANT if tenant == DEFAULT_TENANT else folder == tenant


def _from_base64(text: str) -> bytes:
    """A picture in base64, or in a ``data:`` URL of it."""
    if len(text) * 3 // 4 > MAX_BYTES:
        raise InputRefusedError(f"the input is larger than {MAX_BYTES} bytes")
    try:
        return decoded(text)
    except ValueError as error:
        raise InputRefusedError(str(error)) from None
