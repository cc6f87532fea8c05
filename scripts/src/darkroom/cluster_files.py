"""The files of one cluster, ``clusters/<cluster>/``. It reads them, and nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from darkroom_contract.cluster import MAX_RUNTIMES, Cluster
from darkroom_contract.runtime import Runtime
from darkroom_contract.types import Description, RuntimeName

_Description = TypeVar("_Description", bound=Description)
_RUNTIME_NAME: TypeAdapter[str] = TypeAdapter(RuntimeName)


class ClusterFileError(Exception):
    """A file is missing or wrong; the message names the file and the field."""


@dataclass(frozen=True)
class ClusterFiles:
    """A cluster and its runtimes by name, in the order of their names."""

    cluster: Cluster
    runtimes: dict[str, Runtime]


def load_cluster(folder: Path) -> ClusterFiles:
    """Read a cluster's folder; raises ``ClusterFileError``."""
    cluster = _load(folder / "cluster.yaml", "cluster", Cluster)
    if cluster.name != folder.name:
        raise ClusterFileError(f"{folder / 'cluster.yaml'}: cluster.name must be the folder's name, {folder.name}")
    runtimes = {}
    for path in sorted((folder / "runtimes").glob("*/runtime.yaml")):
        name = path.parent.name
        try:
            _RUNTIME_NAME.validate_python(name)
        except ValidationError:
            raise ClusterFileError(
                f"{path.parent}: a runtime's folder is named by at most 32 lower-case letters, digits and hyphens, "
                "beginning with a letter"
            ) from None
        runtimes[name] = _load(path, "runtime", Runtime)
    if len(runtimes) > MAX_RUNTIMES:
        raise ClusterFileError(
            f"{folder / 'runtimes'}: {len(runtimes)} runtimes; a cluster has at most {MAX_RUNTIMES}, since SNS takes "
            "no more filters for a topic. Move some to another cluster"
        )
    _check_defaults(folder, runtimes)
    return ClusterFiles(cluster, runtimes)


def _check_defaults(folder: Path, runtimes: dict[str, Runtime]) -> None:
    """A v1alpha1 request names a checkpoint alone, so no two runtimes may be meant by it."""
    defaults: dict[str, Path] = {}
    for name, runtime in runtimes.items():
        if runtime.checkpoint is None or not runtime.default_for_checkpoint:
            continue
        path = folder / "runtimes" / name / "runtime.yaml"
        first = defaults.setdefault(runtime.checkpoint, path)
        if first != path:
            raise ClusterFileError(
                f"{first} and {path} are both the default for the checkpoint {runtime.checkpoint}: "
                "set runtime.defaultForCheckpoint to false in one of them"
            )


def _load(path: Path, key: str, model: type[_Description]) -> _Description:
    try:
        document: Any = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ClusterFileError(f"{path}: there is no such file") from None
    except yaml.YAMLError as error:
        raise ClusterFileError(f"{path}: not YAML: {error}") from None
    if not isinstance(document, dict) or set(document) != {key}:
        raise ClusterFileError(f"{path}: the file has one key, {key}")
    try:
        return model.model_validate(document[key])
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, (key, *item['loc'])))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise ClusterFileError("\n".join(lines)) from None
