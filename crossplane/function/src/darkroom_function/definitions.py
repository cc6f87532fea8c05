"""The composites' APIs: what Crossplane offers in Kubernetes, made of the models in ``apis``.

``python -m darkroom_function.definitions DIRECTORY`` writes them; nothing else touches the disk.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darkroom_contract.rules import rule, rules
from darkroom_contract.types import Description
from darkroom_function import conditions, schemas
from darkroom_function.apis import (
    API_VERSION,
    GROUP,
    VERSION,
    ClusterAccessSpec,
    ClusterAccessStatus,
    ModelRuntimeSpec,
    ModelRuntimeStatus,
    PromptApiSpec,
    PromptApiStatus,
    StorageSpec,
    StorageStatus,
)

#: The Function's name in Kubernetes.
FUNCTION = "darkroom-function"

_HEADER = "# Made of the models in crossplane/function/src/darkroom_function/apis.py by `make schemas`.\n"
_OF_CLUSTER = "self.metadata.name == self.spec.cluster.name", "it has to be the cluster's name, spec.cluster.name"
_OF_RUNTIME = "self.metadata.name == self.spec.name", "it has to be the runtime's name, spec.name"


@dataclass(frozen=True)
class Column:
    """A column of ``kubectl get``; a wide one is shown with ``-o wide`` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def definition(self) -> dict[str, Any]:
        """The column as a CRD has it."""
        shown = {"priority": 1} if self.wide else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path, **shown}


@dataclass(frozen=True)
class Api:
    """One kind of composite."""

    kind: str
    plural: str
    folder: str
    spec: type[Description]
    status: type[Description]
    #: Its name is what AWS names are built from, so that no two composites of a namespace are about the same.
    named: tuple[str, str] = _OF_CLUSTER
    columns: tuple[Column, ...] = ()

    @property
    def name(self) -> str:
        """The name of its definition, and of its composition."""
        return f"{self.plural}.{GROUP}"

    def definition(self) -> dict[str, Any]:
        """Its CompositeResourceDefinition. Crossplane adds ``spec.crossplane``, conditions, and more columns."""
        columns = (*self.columns, Column("Progress", _condition(conditions.READY), wide=True))
        return {
            "apiVersion": "apiextensions.crossplane.io/v2",
            "kind": "CompositeResourceDefinition",
            "metadata": {"name": self.name},
            "spec": {
                "scope": "Namespaced",
                "group": GROUP,
                "names": {
                    "kind": self.kind,
                    "plural": self.plural,
                    "singular": self.kind.lower(),
                    "categories": ["darkroom"],
                },
                "defaultCompositionRef": {"name": self.name},
                "versions": [
                    {
                        "name": VERSION,
                        "served": True,
                        "referenceable": True,
                        "additionalPrinterColumns": [column.definition() for column in columns],
                        "schema": {"openAPIV3Schema": self._schema()},
                    }
                ],
            },
        }

    def _schema(self) -> schemas.Schema:
        spec = schemas.structural(self.spec)
        return {
            "type": "object",
            "description": spec["description"],
            "required": ["spec"],
            **rules(rule(*self.named, ".metadata.name")),
            "properties": {"spec": spec, "status": schemas.observed(self.status)},
        }

    def composition(self) -> dict[str, Any]:
        """Its Composition: everything is up to the function."""
        return {
            "apiVersion": "apiextensions.crossplane.io/v1",
            "kind": "Composition",
            "metadata": {"name": self.name},
            "spec": {
                "compositeTypeRef": {"apiVersion": API_VERSION, "kind": self.kind},
                "mode": "Pipeline",
                "pipeline": [{"step": "compose", "functionRef": {"name": FUNCTION}}],
            },
        }


def _condition(kind: str) -> str:
    return f".status.conditions[?(@.type=='{kind}')].message"


APIS = (
    Api(
        "Storage",
        "storages",
        "storage",
        StorageSpec,
        StorageStatus,
        columns=(
            Column("Models", ".status.modelsBucket"),
            Column("Jobs", ".status.jobsBucket", wide=True),
            Column("Outputs", ".status.outputsBucket"),
        ),
    ),
    Api(
        "PromptApi",
        "promptapis",
        "prompt-api",
        PromptApiSpec,
        PromptApiStatus,
        columns=(
            Column("URL", ".status.apiUrl"),
            Column("Results", ".status.resultQueueUrl", wide=True),
        ),
    ),
    Api(
        "ModelRuntime",
        "modelruntimes",
        "model-runtime",
        ModelRuntimeSpec,
        ModelRuntimeStatus,
        named=_OF_RUNTIME,
        columns=(
            Column("Engine", ".spec.engine"),
            Column("Accepting", ".spec.accepting", type="boolean"),
            Column("Checkpoint", ".spec.checkpoint"),
            Column("Queue", ".status.queueUrl", wide=True),
        ),
    ),
    Api(
        "ClusterAccess",
        "clusteraccesses",
        "cluster-access",
        ClusterAccessSpec,
        ClusterAccessStatus,
        columns=(
            Column("Interruptions", ".status.interruptionQueue"),
            Column("Nodes", ".status.nodeInstanceProfile"),
        ),
    ),
)


def documents() -> dict[str, dict[str, Any]]:
    """Every definition and composition, by its file's path."""
    return {
        f"{api.folder}/{file}.yaml": document
        for api in APIS
        for file, document in (("definition", api.definition()), ("composition", api.composition()))
    }


def main(directory: Path) -> None:
    """Write the documents into the directory."""
    for path, document in documents().items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write everything out where it belongs."""
        return True


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m darkroom_function.definitions DIRECTORY")
    main(Path(sys.argv[1]))
