"""Every composition, by the kind of its composite. Pure."""

from collections.abc import Mapping
from typing import Any

from darkroom_function import cluster_access, model_runtime, prompt_api, storage
from darkroom_function.apis import (
    ClusterAccessSpec,
    InvalidSpec,
    ModelRuntimeSpec,
    PromptApiSpec,
    StorageSpec,
    parse_spec,
)
from darkroom_function.managed import Composed, Observed


def compose(kind: str, spec: Mapping[str, Any], observed: Observed) -> Composed[Any]:
    """What a composite of the kind, with this ``spec``, becomes; raises ``InvalidSpec``."""
    match kind:
        case "Storage":
            return storage.compose(parse_spec(StorageSpec, spec), observed)
        case "PromptApi":
            return prompt_api.compose(parse_spec(PromptApiSpec, spec), observed)
        case "ModelRuntime":
            return model_runtime.compose(parse_spec(ModelRuntimeSpec, spec), observed)
        case "ClusterAccess":
            return cluster_access.compose(parse_spec(ClusterAccessSpec, spec), observed)
    raise InvalidSpec(f"kind: {kind} is not Storage, PromptApi, ModelRuntime or ClusterAccess")
