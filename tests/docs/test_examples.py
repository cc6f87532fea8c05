"""What a page shows of a file, a request or a notification is one that is taken."""

import json
import textwrap
from collections.abc import Mapping
from functools import reduce
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from darkroom_contract.records import Notification
from darkroom_contract.schemas import ClusterFile, RuntimeFile, WorkflowsFile
from darkroom_contract.v1 import SubmitRequest
from tests.docs.pages import ROOT, Block, blocks

#: What a file of this first key is.
FILES: Mapping[str, type[BaseModel]] = {"cluster": ClusterFile, "runtime": RuntimeFile, "workflows": WorkflowsFile}
EXAMPLE = yaml.safe_load((ROOT / "clusters" / "example" / "cluster.yaml").read_text())


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_a_file_of_a_page_is_taken(block: Block) -> None:
    data = read(block)
    if model := next((FILES[key] for key in data if key in FILES), None):
        model.model_validate(data)
    elif is_of_cluster(data):
        before = [read(other) for other in blocks("yaml") if (other.page, other.line) <= (block.page, block.line)]
        ClusterFile.model_validate({"cluster": reduce(merged, filter(is_of_cluster, before), EXAMPLE["cluster"])})
    else:
        assert {"kind", "metadata"} <= set(data)


def read(block: Block) -> Any:
    return yaml.safe_load(textwrap.dedent(block.text))


def is_of_cluster(data: Any) -> bool:
    """Whether it is a part of a cluster's description; a page's parts go together."""
    return set(data) <= set(schema("cluster")["$defs"]["Cluster"]["properties"])


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_a_document_of_a_page_is_taken(block: Block) -> None:
    data = json.loads(block.text)
    if "Effect" in data:
        assert set(data) <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    elif "result" in data:
        Notification.model_validate(data)
        jsonschema.validate(data, schema("notification"))
    else:
        SubmitRequest.model_validate(data)
        jsonschema.validate(data, schema("v1"))


def schema(name: str) -> Any:
    return json.loads((ROOT / "contract" / "schemas" / f"{name}.schema.json").read_text())


def merged(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The description with a part of it said otherwise."""
    both = {key: merged(whole[key], value) for key, value in part.items() if isinstance(whole.get(key), dict)}
    return {**whole, **part, **both}
