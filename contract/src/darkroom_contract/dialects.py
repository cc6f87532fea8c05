"""JSON Schemas of the models in the dialect of OpenAPI 3.0, which API Gateway and Kubernetes read. Pure."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

Schema = dict[str, Any]

#: How pydantic calls two models of the same name: by their modules. API Gateway wants letters and digits alone.
_QUALIFIED = re.compile(r"darkroom_contract__(\w+?)__")


@dataclass(frozen=True)
class Components:
    """The schemas of a document by name, and the reference to each model's."""

    schemas: dict[str, Schema]
    references: dict[type[BaseModel], Schema]


def components(models: Sequence[tuple[type[BaseModel], JsonSchemaMode]]) -> Components:
    """The schemas of models, and of the models in them, as an OpenAPI 3.0 document has them.

    Each model comes with its mode: ``validation`` for what is read, ``serialization`` for what is written.
    """
    references, schema = models_json_schema(models, ref_template="#/components/schemas/{model}")
    text = json.dumps([[references[key] for key in models], schema["$defs"]])
    named, definitions = json.loads(_QUALIFIED.sub(lambda match: match[1].capitalize(), text))
    return Components(
        schemas={name: to_openapi(definition) for name, definition in definitions.items()},
        references={model: reference for (model, _), reference in zip(models, named, strict=True)},
    )


def to_openapi(schema: Any) -> Any:
    """A JSON Schema of pydantic's (draft 2020-12) in the words of OpenAPI 3.0.

    OpenAPI 3.0 knows no ``null`` type, no ``const`` and no numeric ``exclusiveMinimum``; what may be null is optional.
    """
    if isinstance(schema, list):
        return [to_openapi(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema:
        present = [option for option in schema["anyOf"] if option != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        schema = {**present[0], **rest} if len(present) == 1 else {**rest, "anyOf": present}
    result: Schema = {}
    for key, value in schema.items():
        match key:
            case "const":
                result["enum"] = [value]
            case "exclusiveMinimum" | "exclusiveMaximum":
                result |= {key: True, key.replace("exclusiveM", "m"): value}
            case "properties":
                result[key] = {name: to_openapi(inner) for name, inner in value.items()}
            case "title" | "default" if key == "title" or value is None:
                pass
            case "default" | "enum" | "required":
                result[key] = value
            case _:
                result[key] = to_openapi(value)
    return result
