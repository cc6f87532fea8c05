"""Where the local stack is: a file in the folder where it runs, which it locks, and where other commands find it."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import boto3

from darkroom.trouble import UsageError
from darkroom_contract.names import Names

_FILE = Path(".demo/endpoint.json")
#: Who sets one of these means an account or an endpoint of their own.
_AWS_CHOICES = ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID")


@dataclass(frozen=True)
class LocalStack:
    """How to reach the local stack that runs."""

    #: The name of the cluster that it is.
    cluster: str
    url: str
    api_key: str
    #: Its AWS, which takes any credentials.
    aws_url: str


@contextmanager
def reserved() -> Iterator[Callable[[LocalStack], None]]:
    """The file, this process's alone, and gone at the end; gives what writes to it, or raises ``UsageError``."""
    _FILE.parent.mkdir(exist_ok=True)
    with os.fdopen(os.open(_FILE, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        if not _locks(file, fcntl.LOCK_EX):
            raise UsageError("a local stack runs in this folder already")
        file.truncate()

        def publish(stack: LocalStack) -> None:
            json.dump(asdict(stack), file)
            file.flush()

        try:
            yield publish
        finally:
            _FILE.unlink(missing_ok=True)


def find() -> LocalStack | None:
    """The local stack, if one runs in this folder and is up."""
    try:
        with _FILE.open() as file:
            if _locks(file, fcntl.LOCK_SH):  # left behind by one that was killed
                return None
            return LocalStack(**json.load(file))
    except (FileNotFoundError, json.JSONDecodeError):  # there is none, or it starts
        return None


def aws(names: Names) -> tuple[boto3.Session, str | None]:
    """The AWS of a cluster, and its URL if it is the local stack's.

    It is that if the local stack is this cluster, and the environment does not say that another AWS is meant.
    """
    stack = None if any(os.environ.get(name) for name in _AWS_CHOICES) else find()
    if stack is None or stack.cluster != names.cluster:
        return boto3.Session(region_name=names.region), None
    return boto3.Session("local", "local", region_name=names.region), stack.aws_url


def _locks(file: TextIO, kind: int) -> bool:
    """Lock a file until it is closed; whether nobody else has a lock in the way."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
