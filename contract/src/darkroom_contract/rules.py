"""What a type cannot say of a description, for Kubernetes' API server and for editors as well as for pydantic. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

#: The type of the error of a part of what was checked as a whole; in its context are the part's ``path`` and ``words``.
WITHIN = "within"


def rule(expression: str, message: str, field: str | None = None) -> dict[str, JsonValue]:
    """An expression (CEL) of ``self`` and ``oldSelf`` that has to hold.

    The message is about a field within, if that is said (``.metadata.name``).
    """
    about: dict[str, JsonValue] = {} if field is None else {"fieldPath": field}
    return {"rule": expression, "message": message, **about}


def rules(*each: JsonValue) -> dict[str, JsonValue]:
    """Rules as a ``json_schema_extra``."""
    return {"x-kubernetes-validations": [*each]}


def within(path: str, words: str) -> PydanticCustomError:
    """The error of a part, for a validator of the whole. The path is as Kubernetes writes it, ``tenants[0].name``."""
    return PydanticCustomError(WITHIN, "{path}: {words}", {"path": path, "words": words})


def causes(problems: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """What pydantic found wrong, but for what only follows from the rest.

    A list may be too short only because one of its items is wrong: pydantic does not count that.
    """
    for problem in problems:
        place = problem["loc"]
        inner = (other["loc"] for other in problems if len(other["loc"]) > len(place))
        if problem["type"] != "too_short" or all(other[: len(place)] != place for other in inner):
            yield problem


@dataclass(frozen=True)
class Grammar:
    """A text that a pattern matches whole. Whoever writes another is told in words what it has to be."""

    pattern: str
    words: str
    longest: int

    @property
    def message(self) -> str:
        """What is said of another text."""
        return f"it has to be {self.words}"

    def __get_pydantic_core_schema__(self, source: type[str], handler: GetCoreSchemaHandler) -> CoreSchema:
        """A string that is checked."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, JsonValue]:
        """The pattern with its words, as editors know them (``patternErrorMessage``)."""
        said = {"pattern": f"^{self.pattern}$", "patternErrorMessage": self.message, "maxLength": self.longest}
        return {**handler(schema), **said}

    def _checked(self, text: str) -> str:
        if len(text) > self.longest or not re.fullmatch(self.pattern, text, re.ASCII):
            raise ValueError(self.message)
        return text


#: A name that people give.
LABEL = Grammar(
    "[a-z]([a-z0-9-]{0,30}[a-z0-9])?",
    "at most 32 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
    32,
)


def aws_id(prefix: str, what: str, digits: int = 17) -> Grammar:
    """The id that EC2 and EFS give a thing: ``vpc-0123456789abcdef0``. Older ones have 8 digits."""
    words = f"the id of {what}: {prefix}- and 8 to {digits} digits and letters from a to f"
    return Grammar(f"{prefix}-[0-9a-f]{{8,{digits}}}", words, len(prefix) + 1 + digits)
