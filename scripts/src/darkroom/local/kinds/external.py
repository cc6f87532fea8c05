"""What an entry in the table of kinds is made of: four calls to AWS, and what AWS cannot change.

The words are Crossplane's: an *external resource* is what a managed resource stands for in AWS, its *external name* is
what AWS knows it by.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import boto3

#: What AWS has, spelled as the provider spells ``status.atProvider``; what AWS has not is None.
Observation: TypeAlias = dict[str, Any]
#: ``spec.forProvider`` with every reference replaced by what it refers to.
Spec: TypeAlias = dict[str, Any]


class Refused(Exception):  # noqa: N818 - it says what is the matter
    """AWS refuses something that the emulator lets pass."""


@dataclass(frozen=True)
class Aws:
    """Clients of one AWS endpoint, and the secrets that resources may refer to, by name and key."""

    session: boto3.Session
    endpoint_url: str
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    #: What the emulator has no place for, by kind and external name.
    records: dict[tuple[str, str], Any] = field(default_factory=dict)
    _clients: dict[tuple[str, str | None], Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, service: str, region: str | None = None) -> Any:
        """A client of a service at the endpoint; the same one each time."""
        with self._lock:  # a session is not safe to share between threads, a client is
            if (service, region) not in self._clients:
                made = self.session.client(service, region, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]
                self._clients[service, region] = made
            return self._clients[service, region]

    @cached_property
    def account(self) -> str:
        """The account's number."""
        account: str = self.client("sts").get_caller_identity()["Account"]
        return account


@dataclass(frozen=True)
class Managed:
    """A managed resource, as its entry in the table sees it."""

    kind: str
    #: Empty for as long as AWS has not given it one.
    external_name: str
    spec: Spec
    aws: Aws
    #: The secrets that it may refer to, by name and key.
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    #: What AWS has of it, or had when it was looked at last.
    observed: Observation = field(default_factory=dict)

    @property
    def region(self) -> str | None:
        """The resource's region; None for the kinds that have none."""
        return self.spec.get("region")

    def client(self, service: str) -> Any:
        """A client of a service in the resource's region."""
        return self.aws.client(service, self.region)

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.aws.account}:{resource}"


class External(ABC):
    """How to deal with the external resources of a kind.

    Calls raise what boto3 raises; who calls them takes "there is no such thing" for None in ``observe``, and for done
    in ``delete``. An observation has every field of a spec in which drift can be seen.
    """

    #: Whether the external name is chosen (by default, it is the object's name) and not given by AWS.
    named: ClassVar[bool] = False
    #: Whether its spec says which one it is, so that it is found without a name, too.
    addressed: ClassVar[bool] = False
    #: What AWS cannot change: the fields that the Terraform AWS provider's schemas mark ForceNew, or RequiresReplace,
    #: among those that the compositions use. The region is one of every kind.
    immutable: frozenset[str] = frozenset()
    #: What AWS has of a field that the spec leaves out.
    defaults: Mapping[str, Any] = {}

    @abstractmethod
    def observe(self, it: Managed) -> Observation | None:
        """What AWS has of it, with its ``id``."""

    @abstractmethod
    def create(self, it: Managed) -> str:
        """Make it; its external name."""

    def update(self, it: Managed) -> None:
        """Change what differs from what was observed."""
        self.create(it)

    @abstractmethod
    def delete(self, it: Managed) -> None:
        """Remove it."""

    def differences(self, it: Managed) -> list[str]:
        """The fields of the spec that are observed to be otherwise."""
        wanted = {**self.defaults, **it.spec}
        return [name for name, value in wanted.items() if name in it.observed and not same(value, it.observed[name])]


@dataclass(frozen=True)
class Setting(External):
    """A part of another resource that one call reads, another puts and a third takes away.

    ``parent`` is the field that names the other resource; it is the external name too.
    """

    addressed: ClassVar[bool] = True

    parent: str
    get: Callable[[Managed, str], Observation | None]
    put: Callable[[Managed, str], object]
    drop: Callable[[Managed, str], object]

    @property
    def immutable(self) -> frozenset[str]:  # type: ignore[override]
        """It belongs to its parent for ever."""
        return frozenset({self.parent})

    def observe(self, it: Managed) -> Observation | None:
        """What AWS has of it."""
        parent: str = it.spec[self.parent]
        found = self.get(it, parent)
        return None if found is None else {"id": parent, self.parent: parent, **found}

    def create(self, it: Managed) -> str:
        """Put it."""
        parent: str = it.spec[self.parent]
        self.put(it, parent)
        return parent

    def delete(self, it: Managed) -> None:
        """Take it away."""
        self.drop(it, it.spec[self.parent])


@dataclass(frozen=True)
class Remembered(External):
    """A kind that the emulator has nothing for: it is only remembered, for as long as the process lives."""

    addressed: ClassVar[bool] = True

    immutable: frozenset[str] = frozenset()
    #: Its id, made of its spec, or another one each time.
    identify: Callable[[Managed], str] = lambda it: it.external_name
    #: Where the provider shows it.
    shown_as: str = "id"

    def observe(self, it: Managed) -> Observation | None:
        """What was remembered of it."""
        found: Observation | None = it.aws.records.get(self._key(it))
        return found

    def create(self, it: Managed) -> str:
        """Remember it."""
        name = self.identify(it)
        it.aws.records[it.kind, name] = {**it.spec, "id": name, self.shown_as: name}
        return name

    def delete(self, it: Managed) -> None:
        """Forget it."""
        it.aws.records.pop(self._key(it), None)

    def _key(self, it: Managed) -> tuple[str, str]:
        return it.kind, it.external_name or self.identify(it)


def same(wanted: Any, found: Any) -> bool:
    """Whether AWS has what is wanted.

    Texts of JSON are compared as JSON, lists as sets, objects by the fields that are wanted; None is what is not there.
    """
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(same(value, found.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(any(same(item, other) for other in found) for item in wanted)
    if isinstance(wanted, str) and isinstance(found, str) and wanted[:1] in ("{", "["):
        return wanted == found or _parsed(wanted) == _parsed(found)
    return bool(wanted == found)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def capitalised(value: Any) -> Any:
    """The provider's camelCase in AWS's CamelCase."""
    return _respelled(value, str.upper)


def uncapitalised(value: Any) -> Any:
    """AWS's CamelCase in the provider's camelCase."""
    return _respelled(value, str.lower)


def _respelled(value: Any, first: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {first(name[0]) + name[1:]: _respelled(inner, first) for name, inner in value.items()}
    if isinstance(value, list):
        return [_respelled(item, first) for item in value]
    return value


def present(value: Any) -> Any:
    """A value without what is None: the fields that AWS has nothing in."""
    if isinstance(value, Mapping):
        return {name: present(inner) for name, inner in value.items() if inner is not None}
    return [present(item) for item in value] if isinstance(value, list) else value


def picked(value: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """These fields of a mapping; None for those that it has not."""
    return {name: value.get(name) for name in names}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as most services take them."""
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def tag_map(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Tags as the provider spells them."""
    return {tag["Key"]: tag["Value"] for tag in tags}
