"""Brings a job's input pictures: from HTTPS, from S3, or out of a ``data:`` URL. Touches input fields alone."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from darkroom_agent.aws import AWS_ERRORS, status_of
from darkroom_agent.errors import InputMissingError, InputRefusedError, InputUnavailableError, JobFailedError
from darkroom_agent.fetcher import MAX_BYTES, Fetcher
from darkroom_agent.media import INPUT_TYPES, media_type
from darkroom_agent.settings import Settings
from darkroom_contract import names
from darkroom_contract.inputs import InputField, input_fields, replace_inputs
from darkroom_contract.job import Job
from darkroom_contract.types import DEFAULT_TENANT

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class Inputs:
    """The input pictures of jobs."""

    def __init__(self, fetcher: Fetcher, s3: S3Client, settings: Settings) -> None:
        self._fetcher = fetcher
        self._s3 = s3
        self._output_bucket = settings.output_bucket
        self._input_buckets = settings.input_buckets
        self._tenants = settings.tenants

    def attach(self, job: Job, attach: Callable[[bytes], str]) -> Job:
        """The job with its pictures as the engine takes them; ``attach`` gives the value that stands for a picture.

        Raises an input's ``JobFailedError``, which names the field, and whatever ``attach`` raises.
        """
        values: dict[InputField, str] = {}
        for field in input_fields(job.task, job.content):
            try:
                picture = self._load(field.value, job.tenant)
            except JobFailedError as error:
                error.field = field.name
                raise
            if picture is not None:
                values[field] = attach(picture)
        return job.model_copy(update={"content": replace_inputs(job.content, values)}) if values else job

    def _load(self, value: str, tenant: str) -> bytes | None:
        """The picture that a value names; None when the value is for the engine as it is."""
        if value.startswith("s3://"):
            picture = self._from_s3(value, tenant)
        elif value.startswith(("https://", "http://")):
            picture = self._fetcher.fetch(value)
        elif value.startswith("data:"):
            picture = _from_data_url(value)
        else:
            return None
        if media_type(picture).name not in INPUT_TYPES:
            raise InputRefusedError("the input is not a PNG, JPEG, WebP, GIF or BMP picture")
        return picture

    def _from_s3(self, url: str, tenant: str) -> bytes:
        bucket, key = names.split_s3_url(url)
        if not self._may_read(bucket, key, tenant):
            raise InputRefusedError("the s3:// URL is outside the buckets and folders that the tenant may read")
        try:
            answer = self._s3.get_object(Bucket=bucket, Key=key)
            with answer["Body"] as body:
                if answer["ContentLength"] > MAX_BYTES:
                    raise InputRefusedError(f"the input is larger than {MAX_BYTES} bytes")
                return body.read()
        except AWS_ERRORS as error:
            status = status_of(error)
            if isinstance(error, ClientError) and status is not None and status < 500:
                code = error.response["Error"]["Code"]
                raise InputMissingError(f"S3 answers {status} {code} for the input") from error
            raise InputUnavailableError("S3 does not give the input now") from error

    def _may_read(self, bucket: str, key: str, tenant: str) -> bool:
        if bucket != self._output_bucket:
            return bucket in self._input_buckets
        folder = key.partition("/")[0]
        return folder not in self._tenants or folder == DEFAULT_TENANT if tenant == DEFAULT_TENANT else folder == tenant


def _from_data_url(url: str) -> bytes:
    header, _, data = url.partition(",")
    if not header.endswith(";base64"):
        raise InputRefusedError("a data: URL of a picture is data:<type>;base64,<data>")
    if len(data) * 3 // 4 > MAX_BYTES:
        raise InputRefusedError(f"the input is larger than {MAX_BYTES} bytes")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise InputRefusedError("the data: URL is not base64") from None
