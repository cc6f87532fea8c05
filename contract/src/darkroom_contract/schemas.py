"""Write the JSON Schemas of everything that people and programs send, for editors and clients.

``python -m darkroom_contract.schemas DIRECTORY`` writes them; nothing else touches the disk.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, create_model

from darkroom_contract import openapi, v1, v1alpha1, v1alpha2
from darkroom_contract.cluster import Cluster, Images
from darkroom_contract.message import Message
from darkroom_contract.names import Names
from darkroom_contract.records import Notification
from darkroom_contract.runtime import Runtime

#: Stands in the published document where a cluster has the ARN of its own function.
_EXAMPLE = Names(cluster="example", account="000000000000", region="us-east-1")


def documents() -> dict[str, dict[str, Any]]:
    """Every schema by its file's name."""
    models: dict[str, type[BaseModel]] = {
        "cluster": create_model("ClusterFile", cluster=Cluster),
        "images": create_model("ImagesFile", images=Images),
        "runtime": create_model("RuntimeFile", runtime=Runtime),
        "message": Message,
        "notification": Notification,
        "v1": v1.SubmitRequest,
        "v1alpha1": v1alpha1.Request,
        "v1alpha2": v1alpha2.Request,
    }
    schemas = {f"{name}.schema.json": model.model_json_schema() for name, model in models.items()}
    return schemas | {"openapi.json": openapi.document(_EXAMPLE.api_invoke_arn, "Darkroom")}


def main(directory: Path) -> None:
    """Write the documents into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, document in documents().items():
        (directory / name).write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
