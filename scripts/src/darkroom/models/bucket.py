"""The bucket of a cluster's models: files go there and back in parts, each checked, and go on where they stopped.

It calls S3 alone. S3 knows a SHA-256 of an object in parts only as that of its parts' SHA-256 (user guide, "Checking
object integrity"): it is compared after every upload. The file's own SHA-256, by which people know models, is in the
object's metadata.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from darkroom.trouble import Trouble
from darkroom_contract.names import Bucket, Names

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CompleteMultipartUploadRequestTypeDef,
        HeadObjectOutputTypeDef,
        PartTypeDef,
    )

#: In bytes. S3 takes 10,000 parts: what is larger than 78 GiB has larger ones.
PART_SIZE = 8 * 2**20
_MAX_PARTS = 10_000
_WORKERS = 8
_CHUNK = 2**20
#: The file's SHA-256 in an object's metadata, as hex digits.
_SHA256 = "sha256"
_GONE_OR_OTHER = ("NoSuchUpload", "PreconditionFailed", "ConditionalRequestConflict")

#: Called with the number of bytes that are done now, by any thread.
Progress = Callable[[int], object]


class TransferFailed(Trouble):
    """A model did not arrive as it is, or may not go where it should."""


class Outcome(StrEnum):
    """What an upload came to."""

    UPLOADED = "uploaded"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Model:
    """A model in the bucket."""

    key: str
    #: In bytes.
    size: int
    modified: datetime
    etag: str
    #: Unless something else than this uploaded it.
    sha256: str | None


@dataclass(frozen=True)
class Digests:
    """A file's checksums: its own SHA-256, as hex digits, and that of each part."""

    size: int
    part_size: int
    sha256: str
    parts: tuple[str, ...]

    @property
    def of_object(self) -> str:
        """What S3 says of an object in such parts, before the hyphen and the number of parts."""
        whole = hashlib.sha256(b"".join(map(base64.b64decode, self.parts))).digest()
        return base64.b64encode(whole).decode()

    def part(self, file: Path, number: int) -> bytes:
        """The bytes of a part, which count from 1."""
        with file.open("rb") as opened:
            opened.seek((number - 1) * self.part_size)
            return opened.read(self.part_size)

    def length(self, number: int) -> int:
        """The size of a part."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


def digests(file: Path, progress: Progress) -> Digests:
    """Read a file once; raises ``TransferFailed`` if it is empty."""
    size = file.stat().st_size
    part_size = PART_SIZE * max(1, -(-size // (PART_SIZE * _MAX_PARTS)))
    whole, parts = hashlib.sha256(), []
    with file.open("rb") as opened:
        while part := opened.read(part_size):
            whole.update(part)
            parts.append(base64.b64encode(hashlib.sha256(part).digest()).decode())
            progress(len(part))
    if not parts:
        raise TransferFailed(f"{file}: it is empty")
    return Digests(size, part_size, whole.hexdigest(), tuple(parts))


class ModelBucket:
    """Models by their keys. Another account's bucket of the same name is not touched."""

    def __init__(self, session: boto3.Session, names: Names, endpoint_url: str | None = None) -> None:
        config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=_WORKERS)
        self._s3 = session.client("s3", endpoint_url=endpoint_url, config=config)
        self.name = names.bucket(Bucket.MODELS)
        self._owner = names.account

    # Looking

    def is_there(self) -> bool:
        """Whether the cluster has its bucket."""
        try:
            self._s3.head_bucket(Bucket=self.name, ExpectedBucketOwner=self._owner)
        except ClientError as error:
            if error.response["Error"]["Code"] == "404":
                return False
            raise
        return True

    def models(self) -> list[Model]:
        """All models, in the order of their keys."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, ExpectedBucketOwner=self._owner)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ()) if not item["Key"].endswith("/")]
        with ThreadPoolExecutor(_WORKERS) as workers:
            found = list(workers.map(self._head, keys))
        return [_model(key, head) for key, head in zip(keys, found, strict=True) if head]

    def _head(self, key: str) -> HeadObjectOutputTypeDef | None:
        try:
            return self._s3.head_object(
                Bucket=self.name, Key=key, ChecksumMode="ENABLED", ExpectedBucketOwner=self._owner
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    # Up

    def push(self, key: str, path: Path, file: Digests, progress: Progress, *, replace: bool = False) -> Outcome:
        """Upload a file, or what an earlier try has left of it to do; raises ``TransferFailed``.

        An object with the same checksums stays as it is; another one is replaced only if that is asked for. Uploads of
        other files to the same key that were never finished are given up.
        """
        before = self._head(key)
        if before is not None and _is_same(before, file):
            progress(file.size)
            if before["Metadata"].get(_SHA256) == file.sha256:
                return Outcome.UNCHANGED
        elif before is not None and not replace:
            raise TransferFailed(f"{key} is there already, and is another file: say --replace, or give it another name")
        upload, etags = self._resumed(key, file)
        progress(sum(map(file.length, etags)))
        etags |= self._send(
            key, path, file, upload, [n for n in range(1, len(file.parts) + 1) if n not in etags], progress
        )
        self._complete(key, file, upload, etags, before)
        after = self._head(key)
        if after is None or not _is_same(after, file):
            raise TransferFailed(f"{key} is not in the bucket as it was sent: somebody else writes it; try again")
        if after["Metadata"].get(_SHA256) != file.sha256:  # begun for another file, which has the same first parts
            return self.push(key, path, file, progress, replace=True)
        return Outcome.UPLOADED if before is None else Outcome.REPLACED

    def _resumed(self, key: str, file: Digests) -> tuple[str, dict[int, str]]:
        """An upload of this file, and the ETags of its parts that are there; a new one if none was begun."""
        found: list[tuple[str, dict[int, str]]] = []
        for upload in self._unfinished(key):
            parts = self._parts(key, upload)
            is_of_file = all(
                file.parts[part["PartNumber"] - 1 :][:1] == (part.get("ChecksumSHA256"),) for part in parts
            )
            if parts and is_of_file:
                found.append((upload, {part["PartNumber"]: part["ETag"] for part in parts}))
            else:
                self._abort(key, upload)
        found.sort(key=lambda each: len(each[1]))
        for upload, _ in found[:-1]:
            self._abort(key, upload)
        if found:
            return found[-1]
        created = self._s3.create_multipart_upload(
            Bucket=self.name,
            Key=key,
            ChecksumAlgorithm="SHA256",
            Metadata={_SHA256: file.sha256},
            ExpectedBucketOwner=self._owner,
        )
        return created["UploadId"], {}

    def _unfinished(self, key: str) -> Iterator[str]:
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.name, Prefix=key, ExpectedBucketOwner=self._owner
        )
        for page in pages:
            yield from (each["UploadId"] for each in page.get("Uploads", ()) if each["Key"] == key)

    def _parts(self, key: str, upload: str) -> list[PartTypeDef]:
        pages = self._s3.get_paginator("list_parts").paginate(
            Bucket=self.name, Key=key, UploadId=upload, ExpectedBucketOwner=self._owner
        )
        return [part for page in pages for part in page.get("Parts", ())]

    def _abort(self, key: str, upload: str) -> None:
        self._s3.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload, ExpectedBucketOwner=self._owner)

    def _send(
        self, key: str, path: Path, file: Digests, upload: str, missing: Sequence[int], progress: Progress
    ) -> dict[int, str]:
        """Send parts, each by its checksum, by which S3 refuses another; their ETags."""

        def send(number: int) -> str:
            sent = self._s3.upload_part(
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=file.part(path, number),
                ChecksumSHA256=file.parts[number - 1],
                ExpectedBucketOwner=self._owner,
            )
            progress(file.length(number))
            return sent["ETag"]

        workers = ThreadPoolExecutor(_WORKERS)
        try:
            return dict(zip(missing, workers.map(send, missing), strict=True))
        except ClientError as error:
            match error.response["Error"]["Code"]:
                case "NoSuchUpload":
                    words = f"{key}: somebody else uploads it, and so ended this upload; try again"
                case "BadDigest" | "InvalidDigest":
                    words = f"{path} changed while it was sent: try again"
                case _:
                    raise
            raise TransferFailed(words) from error
        finally:
            workers.shutdown(cancel_futures=True)

    def _complete(
        self, key: str, file: Digests, upload: str, etags: dict[int, str], before: HeadObjectOutputTypeDef | None
    ) -> None:
        """Make an object of the parts, unless somebody else wrote the key meanwhile.

        Who was told that too late, or by a request that was repeated, sees by what is there then.
        """
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etags[number], "ChecksumSHA256": checksum}
            for number, checksum in enumerate(file.parts, 1)
        ]
        request: CompleteMultipartUploadRequestTypeDef = {
            "Bucket": self.name,
            "Key": key,
            "UploadId": upload,
            "MultipartUpload": {"Parts": parts},
            "ExpectedBucketOwner": self._owner,
        }
        if before is None:
            request["IfNoneMatch"] = "*"
        else:
            request["IfMatch"] = before["ETag"]
        try:
            self._s3.complete_multipart_upload(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _GONE_OR_OTHER:
                raise

    # Down

    def find(self, name: str) -> Model:
        """The model with a key, or the only one whose file has that name; raises ``TransferFailed``."""
        if head := self._head(name):
            return _model(name, head)
        models = self.models()
        same = [model for model in models if model.key.rpartition("/")[2] == name]
        if len(same) == 1:
            return same[0]
        if same:
            raise TransferFailed(f"{name}: which one? {', '.join(model.key for model in same)}")
        near = get_close_matches(name, [model.key for model in models]) or [model.key for model in models[:10]]
        raise TransferFailed(f"{name} is not in {self.name}; there are {', '.join(near) or 'no models'}")

    def pull(self, model: Model, folder: Path, progress: Progress) -> Path:
        """Download a model into a folder, or what an earlier try has left of it to do; raises ``TransferFailed``.

        The file appears under its name only when its checksum is right. One of that name that is there already stays.
        """
        target = folder / model.key.rpartition("/")[2]
        if target.exists():
            if model.sha256 is None or _sha256(target) != model.sha256:
                raise TransferFailed(
                    f"{target} is there already, and may be another file: move it, or choose another --out"
                )
            progress(model.size)
            return target
        part = folder / f".{target.name}.{model.etag.strip(chr(34))}.part"
        for older in folder.glob(f".{glob.escape(target.name)}.*.part"):
            if older != part:
                older.unlink()  # of an object that has been replaced
        have = part.stat().st_size if part.exists() else 0
        if (room := shutil.disk_usage(folder).free) < model.size - have:
            raise TransferFailed(f"{folder} has room for {room:,} bytes, and {model.size - have:,} are to come")
        progress(have)
        self._fetch(model, part, progress)
        if model.sha256 is not None and _sha256(part) != model.sha256:
            part.unlink()
            raise TransferFailed(f"{model.key} did not arrive as it was pushed, and was deleted: try again")
        part.rename(target)
        return target

    def _fetch(self, model: Model, part: Path, progress: Progress) -> None:
        """Append to a file what it lacks. A connection that breaks is made anew for as long as something comes."""
        with part.open("ab") as file:
            while (have := file.tell()) < model.size:
                try:
                    body = self._s3.get_object(
                        Bucket=self.name,
                        Key=model.key,
                        IfMatch=model.etag,
                        Range=f"bytes={have}-",
                        ExpectedBucketOwner=self._owner,
                    )["Body"]
                    for chunk in body.iter_chunks(_CHUNK):
                        file.write(chunk)
                        progress(len(chunk))
                except ClientError as error:
                    if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                        raise
                    raise TransferFailed(f"{model.key} was replaced meanwhile: try again") from error
                except BotoCoreError:
                    if file.tell() == have:
                        raise
            file.flush()
            os.fsync(file.fileno())


def _is_same(head: HeadObjectOutputTypeDef, file: Digests) -> bool:
    return head.get("ChecksumSHA256", "").partition("-")[0] == file.of_object


def _model(key: str, head: HeadObjectOutputTypeDef) -> Model:
    return Model(key, head["ContentLength"], head["LastModified"], head["ETag"], head["Metadata"].get(_SHA256))


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
