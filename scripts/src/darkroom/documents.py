"""YAML files that people write, read with the line of every field, and what is wrong with them. It touches files alone.

It is stricter than YAML where YAML hides mistakes: a key is there once, and nothing is repeated by an alias.
"""

import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from darkroom.problems import Place, explained, written
from darkroom_contract.rules import causes

_Model = TypeVar("_Model", bound=BaseModel)
#: Kubernetes and etcd take no larger object.
_MAX_BYTES = 1024 * 1024
#: Deeper than any graph of ComfyUI, and what pydantic's parser of JSON takes.
_MAX_DEPTH = 100
_TOO_DEEP = "it is nested too deeply: a hundred levels at most"
#: What PyYAML says of a line that is further to the right than what it should stand below.
_BY_INDENTATION = ("mapping values are not allowed here", "expected <block end>, but found '<block mapping start>'")
_INDENTED = (
    "; it does not line up with what is above it. If you took away its #, take away that of the line that it belongs "
    "to, too (scaling:, say)"
)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, order=True)
class Finding:
    """Something that is wrong in a file, or worth knowing."""

    path: Path
    line: int
    """From 1."""
    field: str
    """As people write it, ``runtime.args[0]``; empty if it is about the whole file."""
    words: str
    """What is wrong, and what would be right."""
    is_error: bool = True

    def __str__(self) -> str:
        """One line: ``file:line: field: words``."""
        return ": ".join(filter(None, (f"{printable(self.path)}:{self.line}", self.field, printable(self.words))))


@dataclass
class Document:
    """What a file says, with the line of each of its fields."""

    path: Path
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)

    def finding(self, place: Place, words: str, *, is_error: bool = True) -> Finding:
        """What is said of a field: at its line, or at the next one's that it would be in."""
        line = next(self.lines[part] for end in range(len(place), -1, -1) if (part := place[:end]) in self.lines)
        return Finding(self.path, line, written(place), words, is_error)


class Unreadable(Exception):  # noqa: N818 - it says how the file is
    """A file cannot be read as YAML; it has the ``finding`` that says why."""

    def __init__(self, path: Path, line: int, words: str, name: str = "") -> None:
        self.finding = Finding(path, line, name, words)
        super().__init__(str(self.finding))


def printable(text: Path | str) -> str:
    """A path, or what is said of one, whatever bytes its name has."""
    return str(text).encode(errors="surrogateescape").decode(errors="replace")


def read(path: Path) -> Document:
    """Read a file; raises ``Unreadable``."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable(path, 1, "it has to be a file")
        if about.st_size > _MAX_BYTES:
            raise Unreadable(path, 1, "it is larger than 1 MiB, and Kubernetes takes no more")
        content = path.read_bytes()
    except FileNotFoundError:
        raise Unreadable(path, 1, "there is no such file") from None
    except OSError as error:
        raise Unreadable(path, 1, f"it cannot be read: {error.strerror}") from None
    return parse(path, content)


def parse(path: Path, content: bytes) -> Document:
    """Read what a file of that path has in it; raises ``Unreadable``."""
    try:
        text = content.decode("utf-8-sig")
        node = yaml.compose(text, _Loader)
        document = Document(path, lines={(): 1})
        document.value = _Reading(document).value(node, ()) if node else None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(path, line, "it is not text in UTF-8: save it as that") from None
    except _Alias as error:
        raise Unreadable(path, _line(error), "aliases are not taken: write out what this one stands for") from None
    except yaml.MarkedYAMLError as error:
        said = ", ".join(filter(None, (error.context, error.problem)))
        hint = _INDENTED if error.problem in _BY_INDENTATION else ""
        raise Unreadable(path, _line(error), f"not YAML: {said}{hint}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(path, line, "not YAML: a control character, which may not be in it") from None
    except RecursionError:
        raise Unreadable(path, 1, _TOO_DEEP) from None
    return document


def _line(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


class _Alias(yaml.MarkedYAMLError):
    """YAML that has an alias."""


class _Loader(yaml.SafeLoader):
    """YAML without aliases, whose words and numbers are what Helm takes them for (``resolve.go`` of go-yaml v2)."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (f"{_TAG}null", f"{_TAG}merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise _Alias(problem_mark=event.start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("bool", r"(?i:y|n)|[yY]es|YES|[nN]o|NO|[tT]rue|TRUE|[fF]alse|FALSE|[oO]n|ON|[oO]ff|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(0[bB][01_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


class Dumper(yaml.SafeDumper):
    """Writes YAML that is read as it was meant: a text that looks like a number or a word of YAML's is in quotes."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


@dataclass
class _Reading:
    """Makes values of YAML's nodes, and notes their lines."""

    document: Document

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.document.lines.setdefault(place, node.start_mark.line + 1)
        if len(place) > _MAX_DEPTH:
            raise self._refused(node, place[:1], _TOO_DEEP)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return dict(self._entries(node, place))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        raise self._refused(node, place, f"the tag {node.tag} has no meaning: leave it out")

    def _entries(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            is_plain_number = key.tag == f"{_TAG}int" and re.fullmatch("0|[1-9][0-9]*", key.value)
            if key.tag != f"{_TAG}str" and not is_plain_number:
                raise self._refused(key, place, "a key has to be a text: put it in quotes")
            name, line = str(self._scalar(key, place, as_text=True)), key.start_mark.line + 1
            if name in seen:
                raise self._refused(key, (*place, name), f"it is there already in line {seen[name]}: keep one of them")
            seen[name] = self.document.lines[*place, name] = line
            yield name, self.value(value, (*place, name))

    def _scalar(self, node: yaml.ScalarNode, place: Place, *, as_text: bool = False) -> Any:
        tag = f"{_TAG}str" if as_text else node.tag
        make = _SCALARS.get(tag)
        if make is None:
            raise self._refused(node, place, f"the tag {node.tag} has no meaning: leave it out")
        try:
            value = make(_Loader(""), node)
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise self._refused(node, place, "it has half of a surrogate pair: write the character itself") from None
        except (ValueError, KeyError, OverflowError):
            raise self._refused(node, place, "it is no number or word that YAML knows: put it in quotes") from None
        return value

    def _refused(self, node: yaml.Node, place: Place, words: str) -> Unreadable:
        return Unreadable(self.document.path, node.start_mark.line + 1, words, written(place))


_SCALARS: Mapping[str, Any] = {
    f"{_TAG}str": lambda _, node: node.value,
    f"{_TAG}int": yaml.SafeLoader.construct_yaml_int,
    f"{_TAG}float": yaml.SafeLoader.construct_yaml_float,
    f"{_TAG}bool": lambda _, node: node.value.lower() in ("y", "yes", "true", "on"),
    f"{_TAG}null": lambda *_: None,
}


# What is wrong with what a file says


def validate(document: Document, model: type[_Model]) -> tuple[_Model | None, list[Finding]]:
    """What a file says as a model, or everything that is wrong with it.

    As strict as the JSON Schema that Helm checks it by: no text is taken for a number, and fields are in camelCase.
    """
    try:
        text = json.dumps(document.value)
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False), []
    except ValidationError as error:
        problems = error.errors(include_url=False)
        wrong = (explained(model, each) for each in causes(problems))
        return None, [document.finding(place, words) for place, words in wrong]


def said_in(path: Path, model: type[_Model]) -> _Model | None:
    """What a file says as a model, unless something is wrong with it."""
    try:
        return validate(read(path), model)[0]
    except Unreadable:
        return None


def replace(path: Path, content: bytes) -> None:
    """Write a file wholly, or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        new = Path(file.name)
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            new.chmod(path.stat().st_mode)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
