"""Write the JSON Schemas of everything that people and programs send, for editors, clients and Helm.

``python -m darkroom_contract.schemas SCHEMAS CHARTS`` writes them; nothing else touches the disk.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from darkroom_contract import openapi, v1, v1alpha1, v1alpha2
from darkroom_contract.cluster import Cluster, Images
from darkroom_contract.message import Message
from darkroom_contract.names import Names
from darkroom_contract.records import Notification
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Label, Model
from darkroom_contract.workflows import Workflows

#: Stands in the published document where a cluster has the ARN of its own function.
_EXAMPLE = Names(cluster="example", account="000000000000", region="us-east-1")


class ClusterFile(Model):
    """``clusters/<cluster>/cluster.yaml``."""

    cluster: Cluster


class ImagesFile(Model):
    """``clusters/<cluster>/images.yaml``."""

    images: Images


class RuntimeFile(Model):
    """``clusters/<cluster>/runtimes/<name>/runtime.yaml``."""

    runtime: Runtime


class WorkflowsFile(Model):
    """``clusters/<cluster>/runtimes/<name>/workflows/<workflow>.yaml``."""

    workflows: Workflows


class ClusterValues(Model):
    """What the charts of a cluster are told: its files ``cluster.yaml`` and ``images.yaml``."""

    cluster: Cluster
    images: Images = Images()


class RuntimeValues(ClusterValues):
    """What the chart of a runtime is told: its folder's name, the cluster's files and its own."""

    name: Label
    runtime: Runtime
    workflows: Workflows = {}


def documents() -> dict[str, dict[str, Any]]:
    """Every schema by its file's name."""
    models: dict[str, type[BaseModel]] = {
        "cluster": ClusterFile,
        "images": ImagesFile,
        "runtime": RuntimeFile,
        "workflows": WorkflowsFile,
        "message": Message,
        "notification": Notification,
        "v1": v1.SubmitRequest,
        "v1alpha1": v1alpha1.Request,
        "v1alpha2": v1alpha2.Request,
    }
    schemas = {f"{name}.schema.json": model.model_json_schema() for name, model in models.items()}
    return schemas | {"openapi.json": openapi.document(_EXAMPLE.api_invoke_arn, "Darkroom")}


def chart_documents() -> dict[str, dict[str, Any]]:
    """The schema of every chart's values by its place among the charts. Helm refuses what does not fit."""
    of_a_cluster = dict.fromkeys(("root", "platform", "gpu-nodes"), ClusterValues)
    charts: dict[str, type[BaseModel]] = {**of_a_cluster, "sd-runtime": RuntimeValues}
    return {
        f"{chart}/values.schema.json": _plainly_refusing(model.model_json_schema()) for chart, model in charts.items()
    }


def _plainly_refusing(schema: Any) -> Any:
    """The same schema, by which Helm says of an optional field only why its value does not fit, not that null would."""
    if isinstance(schema, list):
        return [_plainly_refusing(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plainly_refusing(part) for key, part in schema.items()}
    match plain.get("anyOf"):
        case [choice, {"type": "null"} as null]:
            del plain["anyOf"]
            return plain | {"if": null, "else": choice}
    return plain


def main(schemas: Path, charts: Path) -> None:
    """Write the documents into their directories."""
    places = {schemas: documents(), charts: chart_documents()}
    for directory, contents in places.items():
        for name, document in contents.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
