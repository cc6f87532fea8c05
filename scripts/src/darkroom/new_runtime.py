"""``darkroom runtime new``: the file of a new model runtime, with what else could be said in it.

It writes that file, and reads the cluster's others to say what does not go together with them.

The options and their defaults come from the model of a runtime: a line that begins with ``#`` and a name is one.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from darkroom.cluster_files import check_cluster
from darkroom.documents import Dumper, Finding, parse, read, said_in, validate
from darkroom.trouble import UsageError
from darkroom_contract.gpus import Gpu
from darkroom_contract.rules import LABEL
from darkroom_contract.runtime import ONE_ENGINE_ONLY, Runtime
from darkroom_contract.schemas import ClusterFile, RuntimeFile
from darkroom_contract.types import Engine, RuntimeName

_WIDTH = 100
_NAME: TypeAdapter[str] = TypeAdapter(RuntimeName)


def only_cluster(clusters: Path) -> Path:
    """The only cluster's folder that Argo CD follows (``gitops``); raises ``UsageError`` if there are more, or none."""
    files = {path.parent: said_in(path, ClusterFile) for path in sorted(clusters.glob("*/cluster.yaml"))}
    followed = [folder for folder, file in files.items() if file and file.cluster.gitops]
    if len(followed) == 1:
        return followed[0]
    found = " and ".join(map(str, followed)) or "none"
    raise UsageError(f"which cluster? Say it by --cluster; those under {clusters} with gitops in cluster.yaml: {found}")


def write_runtime(
    cluster: Path, name: str, engine: Engine, checkpoint: str | None, gpu: Gpu | None
) -> tuple[Path, list[Finding]]:
    """Write a runtime's file into a cluster's folder; raises ``UsageError``.

    Returns its path, and what there is to say of it among the cluster's other files. A file that is there already stays
    as it is.
    """
    try:
        _NAME.validate_python(name)
    except ValidationError:
        raise UsageError(f"{name}: a runtime is named by {LABEL.words}") from None
    if not (cluster / "cluster.yaml").is_file():
        raise UsageError(f"{cluster} is no cluster: it has no cluster.yaml")
    path = cluster / "runtimes" / name / "runtime.yaml"
    default = _default_for(cluster, checkpoint)
    given = {
        "engine": engine.value,
        "checkpoint": checkpoint,
        "default_for_checkpoint": False if default else None,
        "gpu": gpu.value if gpu else None,
    }
    text = runtime_text({field: value for field, value in given.items() if value is not None})
    _, findings = validate(parse(path, text.encode()), RuntimeFile)
    if findings:
        raise UsageError("; ".join(f"{finding.field}: {finding.words}" for finding in findings))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already: edit it, or choose another name") from None
    findings = [finding for finding in check_cluster(cluster)[1] if finding.path == path]
    written = read(path)
    if default:
        words = f"false, since {default} is the default for {checkpoint} already: its v1alpha1 requests stay there"
        findings.append(written.finding(("runtime", "defaultForCheckpoint"), words, is_error=False))
    if engine is Engine.SDWEBUI and checkpoint is None:
        words = "none is said, and the web UI begins with any that it finds: name one, unless all jobs name theirs"
        findings.append(written.finding(("runtime", "checkpoint"), words, is_error=False))
    return path, findings


def _default_for(cluster: Path, checkpoint: str | None) -> str | None:
    """The runtime that v1alpha1 requests for a checkpoint go to, as far as the cluster's files can be read."""
    for path in sorted(cluster.glob("runtimes/*/runtime.yaml")) if checkpoint else ():
        file = said_in(path, RuntimeFile)
        if file and file.runtime.checkpoint == checkpoint and file.runtime.default_for_checkpoint:
            return path.parent.name
    return None


def runtime_text(given: dict[str, Any]) -> str:
    """A runtime's file that says what is given, and has everything else as a comment with its default."""
    lines = [
        "# yaml-language-server: $schema=../../../../contract/schemas/runtime.schema.json",
        "# What begins with # and a name is an option with its default. To change one, take away its # and, where it",
        "# belongs to another, that one's.",
        "runtime:",
    ]
    for name, info in Runtime.model_fields.items():
        if name in given:
            lines += _indented("  ", [*_prose(info), f"{info.alias}: {_value(given[name])}"])
        elif name not in ONE_ENGINE_ONLY or ONE_ENGINE_ONLY[name][0] == given["engine"]:
            lines += [*_indented("  ", _prose(info)), *_indented("  #", _option(info))]
    return "\n".join(lines) + "\n"


def _option(info: FieldInfo) -> Iterator[str]:
    """The lines of one option with its default; the options within it have their comments with them."""
    default = info.get_default(call_default_factory=True)
    if not isinstance(default, BaseModel):
        yield f"{info.alias}: {_value(default)}"
        return
    yield f"{info.alias}:"
    for inner in type(default).model_fields.values():
        yield from _indented("  ", [*_prose(inner), *_option(inner)])


def _prose(info: FieldInfo) -> Iterator[str]:
    words = " ".join((info.description or "").replace("``", "").split())
    return (f"# {line}" for line in textwrap.wrap(words, _WIDTH))


def _value(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.dump(to_jsonable_python(value), Dumper=Dumper, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _indented(by: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    return (by + line for line in lines)
