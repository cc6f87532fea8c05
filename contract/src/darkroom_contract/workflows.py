"""Named workflows of ComfyUI: ``runtimes/<name>/workflows/<workflow>.yaml``, key ``workflows``. Pure.

A workflow is a graph, and the places in it that a prompt may fill in. The API checks what a prompt gives and fills it
in, so that the rest of the way it is a job as any other.
"""

import copy
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Annotated, Any, Self, TypeGuard

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from darkroom_contract import inputs
from darkroom_contract.job import FieldError, check_workflow
from darkroom_contract.rules import Grammar, within
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Description, JsonObject, Label, Task

#: The longest workflow, and all of a runtime: bytes of compact JSON. A runtime's composite has them all, and Crossplane
#: hands it to the composition function with what it observed of them, twice: gRPC takes 4 MiB by default.
MAX_WORKFLOW_BYTES = 256 * 1024
MAX_WORKFLOWS_BYTES = 512 * 1024
#: Whole numbers beyond it may lose digits on their way to the API: there are doubles on it (RFC 8259, section 6).
MAX_WHOLE_NUMBER = 2**53 - 1

#: What the nodes call their seeds. Such an input may be left out: every prompt has a seed of its own then.
_SEEDS = ("seed", "noise_seed")
#: The largest seed that is chosen, unless its minimum is above it.
_MAX_SEED = 2**32 - 1


class InputType(StrEnum):
    """What an input takes."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    IMAGE = "image"

    def is_of(self, value: JsonValue) -> bool:
        """Whether a value is of the type."""
        match self:
            case InputType.STRING | InputType.IMAGE:
                return isinstance(value, str)
            case InputType.BOOLEAN:
                return isinstance(value, bool)
            case InputType.INTEGER:
                return isinstance(value, int) and not isinstance(value, bool)
        return isinstance(value, int | float) and not isinstance(value, bool)


_WORDS = {
    InputType.STRING: "a text",
    InputType.INTEGER: "a whole number",
    InputType.NUMBER: "a number",
    InputType.BOOLEAN: "true or false",
    InputType.IMAGE: "a picture: an https:// or s3:// URL, a data: URL, or the name of a file of the runtime",
}


def _whole(value: Any) -> Any:
    """The value with 20 for 20.0: on their way through Kubernetes and Crossplane whole numbers become floats."""
    match value:
        case float() if value.is_integer() and abs(value) <= MAX_WHOLE_NUMBER:
            return int(value)
        case dict():
            return {name: _whole(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_whole(inner) for inner in value]
    return value


def _exact(value: Any) -> Any:
    match value:
        case int() if abs(value) > MAX_WHOLE_NUMBER:
            raise ValueError(f"{value} would lose digits on its way: whole numbers go up to {MAX_WHOLE_NUMBER}")
        case float() if not math.isfinite(value):
            raise ValueError("it has to be a finite number")
        case dict():
            for inner in value.values():
                _exact(inner)
        case list():
            for inner in value:
                _exact(inner)
    return value


#: A value as it stands in a file. On its way it may become a float, and is an integer again at its end.
_Value = Annotated[JsonValue, BeforeValidator(_whole), AfterValidator(_exact)]
_Limit = Annotated[float, Field(allow_inf_nan=False)]
_InputName = Annotated[
    str,
    Grammar("[A-Za-z][A-Za-z0-9_-]{0,63}", "at most 64 letters, digits, hyphens and underscores, a letter first", 64),
]


class WorkflowInput(Description):
    """What a prompt may set in a workflow: one field of one node."""

    node: Annotated[str, Field(min_length=1)]
    """The node's id in the graph, in quotes: ``"6"``."""
    field: Annotated[str, Field(min_length=1)]
    """The name of the node's input: ``text``."""
    type: InputType
    """What it takes. An ``image`` is what the node ``LoadImage`` and its like open."""
    default: _Value = None
    """What it is if a prompt does not say. Without it a prompt has to say it, but for a seed."""
    minimum: _Limit | None = None
    """The least that a number may be."""
    maximum: _Limit | None = None
    """The most that a number may be."""
    enum: Annotated[tuple[_Value, ...], Field(min_length=1, max_length=200)] | None = None
    """All that it may be: texts or numbers."""

    @property
    def is_seed(self) -> bool:
        """Whether it is a seed that is chosen for a prompt that has none."""
        return self.type is InputType.INTEGER and self.field in _SEEDS and self.default is None and self.enum is None

    @property
    def words(self) -> str:
        """What a value has to be, for people."""
        if self.enum is not None:
            return f"one of {', '.join(map(json.dumps, self.enum))}"
        what, least, most = _WORDS[self.type], _whole(self.minimum), _whole(self.maximum)
        if least is not None and most is not None:
            return f"{what} from {least} to {most}"
        if least is not None:
            return f"{what}, {least} or more"
        return what if most is None else f"{what}, {most} or less"

    def takes(self, value: JsonValue) -> bool:
        """Whether a value may stand in the field."""
        if not self.type.is_of(value) or (self.enum is not None and value not in self.enum):
            return False
        if not isinstance(value, int | float):
            return True
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def chosen_seed(self) -> int:
        """A seed within the limits."""
        least = 0 if self.minimum is None else int(self.minimum)
        most = _MAX_SEED if self.maximum is None else min(_MAX_SEED, int(self.maximum))
        return least + secrets.randbelow(max(least, most) - least + 1)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        is_number = self.type in (InputType.INTEGER, InputType.NUMBER)
        for name, limit in (("minimum", self.minimum), ("maximum", self.maximum)):
            if limit is not None and not is_number:
                raise within(name, f"it is for numbers, and the type is {self.type}: leave it out")
            if limit is not None and self.type is InputType.INTEGER and not limit.is_integer():
                raise within(name, "it has to be a whole number, as the type is")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise within("minimum", f"it is more than the maximum, {_whole(self.maximum)}")
        if self.enum is not None and not is_number and self.type is not InputType.STRING:
            raise within("enum", f"it is for texts and numbers, and the type is {self.type}: leave it out")
        if self.is_seed and self.minimum is None and self.maximum is not None and self.maximum < 0:
            raise within("maximum", "a seed is 0 or more")
        limits = self.model_copy(update={"enum": None})
        for index, value in enumerate(self.enum or ()):
            if not limits.takes(value):
                raise within(f"enum[{index}]", f"it has to be {limits.words}")
        if self.default is not None and not self.takes(self.default):
            raise within("default", f"it has to be {self.words}")
        return self


class Workflow(Description):
    """A named workflow of ComfyUI: ``workflows/<workflow>.yaml``, under its name in the key ``workflows``."""

    graph: Annotated[JsonObject, BeforeValidator(_whole), AfterValidator(_exact)]
    """The workflow in ComfyUI's API format: what its menu Export (API) writes."""
    inputs: Annotated[dict[_InputName, WorkflowInput], Field(max_length=100)] = {}
    """What a prompt may set in it, by the names that prompts use: a place in the graph each."""

    @property
    def size(self) -> int:
        """Its bytes of compact JSON."""
        return len(self.to_json().encode())

    def to_json(self) -> str:
        """Compact JSON, as the API reads it: the same text whatever order the fields come in from Crossplane."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def filled(self, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """The graph with what a prompt gives in its places, and a seed where it gives none.

        Raises ``FieldError`` with the input's name, ``inputs.steps``, and what would be right.
        """
        known = f"there are {', '.join(self.inputs)}" if self.inputs else "it has none"
        for name in given:
            if name not in self.inputs:
                raise FieldError(f"inputs.{name}", f"the workflow has no such input; {known}")
        graph: dict[str, Any] = copy.deepcopy(self.graph)
        for name, described in self.inputs.items():
            graph[described.node]["inputs"][described.field] = _value(name, described, given.get(name))
        return graph

    def input_at(self, field: str) -> str | None:
        """The input, ``inputs.photo``, that fills a field of the content: ``content.12.inputs.image``."""
        places = {f"content.{it.node}.inputs.{it.field}": f"inputs.{name}" for name, it in self.inputs.items()}
        return places.get(field)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.size > MAX_WORKFLOW_BYTES:
            raise within("graph", f"it has {self.size} bytes of JSON, and {MAX_WORKFLOW_BYTES} are the most")
        try:
            check_workflow(self.graph, "graph")
        except FieldError as error:
            raise within("graph", error.message) from None
        self._check_links()
        for name, described in self.inputs.items():
            self._check_place(f"inputs.{name}", described)
        places = sorted((it.node, it.field, name) for name, it in self.inputs.items())
        for _, same in groupby(places, key=lambda place: place[:2]):
            first, *others = (name for _, _, name in same)
            if others:
                raise within(f"inputs.{others[0]}", f"the input {first} is at the same place: leave one of them out")
        for field, reason in inputs.problems(Task.PIPELINE, self._with_defaults()):
            raise within(field.replace("content", "graph", 1), reason)
        return self

    def _check_links(self) -> None:
        for name, node in self.graph.items():
            fields = node.get("inputs") if isinstance(node, dict) else None
            for field, value in fields.items() if isinstance(fields, dict) else ():
                if _is_link(value) and value[0] not in self.graph:
                    known = ", ".join(self.graph)
                    raise within(
                        f"graph.{name}.inputs.{field}",
                        f"the graph has no node {value[0]} to link to; there are {known}",
                    )

    def _check_place(self, path: str, described: WorkflowInput) -> None:
        node = self.graph.get(described.node)
        if not isinstance(node, dict):
            raise within(f"{path}.node", f"the graph has no node {described.node}; there are {', '.join(self.graph)}")
        fields = node.get("inputs")
        fields = fields if isinstance(fields, dict) else {}
        if described.field not in fields:
            known = f"there are {', '.join(fields)}" if fields else "it has none"
            raise within(f"{path}.field", f"the node {described.node} has no such input; {known}")
        if isinstance(fields[described.field], list):
            raise within(f"{path}.field", "it is linked to another node: name an input that has a value")
        opens_picture = inputs.is_picture_field(node, described.field)
        if opens_picture is not (described.type is InputType.IMAGE):
            right = "image, since the node opens a picture" if opens_picture else "another: the node opens no picture"
            raise within(f"{path}.type", f"it has to be {right}")
        self._check_type(path, described, fields[described.field])

    def _check_type(self, path: str, described: WorkflowInput, value: JsonValue) -> None:
        if value is None or described.type.is_of(value):
            return
        fitting = " or ".join(each for each in InputType if each is not InputType.IMAGE and each.is_of(value))
        remedy = f"make it {fitting}" if fitting else "name an input that has a text, a number, true or false"
        what = _WORDS[described.type]
        raise within(f"{path}.type", f"the graph has {json.dumps(value)} in its place, which is not {what}: {remedy}")

    def _with_defaults(self) -> dict[str, JsonValue]:
        graph: dict[str, Any] = copy.deepcopy(self.graph)
        for described in self.inputs.values():
            if described.default is not None:
                graph[described.node]["inputs"][described.field] = described.default
        return graph


def _is_link(value: JsonValue) -> TypeGuard[list[Any]]:
    """Whether a node's input is the output of another: ``["4", 0]`` (``is_link`` in ComfyUI's graph_utils.py)."""
    match value:
        case [str(), int() | float()]:
            return True
    return False


def check_sizes(workflows: Iterable[Workflow]) -> None:
    """Refuse more than a runtime may have; raises ``ValueError``."""
    size = sum(workflow.size for workflow in workflows)
    if size > MAX_WORKFLOWS_BYTES:
        raise ValueError(f"all of a runtime have {size} bytes of JSON, and {MAX_WORKFLOWS_BYTES} are the most")


def refused_classes(
    graph: Mapping[str, JsonValue], allowed: Sequence[str], denied: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """The nodes of a graph that a runtime does not run, each with its class.

    ``allowed`` and ``denied`` are patterns of classes, as fnmatch takes them. None allowed is all allowed.
    """
    for node, content in graph.items():
        kind = str(content.get("class_type")) if isinstance(content, dict) else ""
        if _matching(kind, denied) is not None or (allowed and _matching(kind, allowed) is None):
            yield node, kind


def _matching(kind: str, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(kind, pattern)), None)


def refused_nodes(workflows: Mapping[str, Workflow], runtime: Runtime) -> Iterator[tuple[tuple[str, ...], str]]:
    """The nodes that a runtime's agent would refuse: the place of each one's class in the file, and the reason."""
    for name, workflow in workflows.items():
        for node, kind in refused_classes(workflow.graph, runtime.allowed_nodes, runtime.denied_nodes):
            pattern = _matching(kind, runtime.denied_nodes)
            reason = f", since its deniedNodes have {pattern}" if pattern else ", which is none of its allowedNodes"
            place = ("workflows", name, "graph", node, "class_type")
            yield place, f"the runtime does not run {kind}{reason}: change one of them"


def _checked_sizes(workflows: dict[str, Workflow]) -> dict[str, Workflow]:
    check_sizes(workflows.values())
    return workflows


#: The named workflows of a runtime. A file has one of them, and its name.
Workflows = Annotated[dict[Label, Workflow], AfterValidator(_checked_sizes)]


def _value(name: str, described: WorkflowInput, given: JsonValue) -> JsonValue:
    """What stands in an input's place. Null is the same as nothing, and so is a seed of -1."""
    field = f"inputs.{name}"
    if described.is_seed and given in (None, -1):
        return described.chosen_seed()
    if given is None and described.default is not None:
        return described.default
    if given is None:
        raise FieldError(field, f"{field} is missing: it must be {described.words}")
    if not described.takes(given):
        raise FieldError(field, f"{field} must be {described.words}")
    return given
