"""Settings of a process, typed, from its environment variables."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError


class SettingsError(Exception):
    """Environment variables are missing or wrong; the message names each."""


def _split(value: Any) -> Any:
    return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value


#: A comma-separated list of values.
CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Environment(BaseModel):
    """Settings: the field ``queue_url`` is the variable ``QUEUE_URL``. An empty variable counts as absent."""

    model_config = ConfigDict(frozen=True, alias_generator=str.upper, populate_by_name=True)

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; raises ``SettingsError`` with a line for each variable that is missing or wrong."""
        try:
            return cls.model_validate({name: value for name, value in environ.items() if value})
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False)]
            raise SettingsError("; ".join(lines)) from None
