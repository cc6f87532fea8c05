"""A container's environment, and the variables in its command line, as the kubelet makes them from the pod's spec."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.kubelet.errors import NotStarted, Unsupported
from tests.e2e.kubelet.objects import Object, Objects

_REFERENCE = re.compile(r"\$(?:(\$)|\(([^()]+)\))")
_ENTRY = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


def variables(container: Object, pod: Object, objects: Objects) -> dict[str, str]:
    """The variables that the spec gives; raises ``NotStarted`` when something that they refer to is not there."""
    namespace = pod["metadata"]["namespace"]
    made: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        prefix = source.get("prefix", "")
        reference, kind = _kind_of(source, "Ref")
        optional = reference.get("optional", False)
        values = objects.files(kind, namespace, reference["name"], optional=optional)
        made |= {prefix + key: value.decode() for key, value in values.items()}
    for entry in container.get("env", ()):
        if "valueFrom" not in entry:
            made[entry["name"]] = expand(entry.get("value", ""), made)
        elif (value := _referred(entry["valueFrom"], pod, objects)) is not None:
            made[entry["name"]] = value
    return made


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value where it has one; ``$$`` is one dollar sign."""
    return _REFERENCE.sub(lambda found: "$" if found[1] else values.get(found[2], found[0]), text)


def expand_all(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """``expand`` for the words of a command."""
    return [expand(word, values) for word in words]


def field(path: str, pod: Object) -> str:
    """What a ``fieldRef`` refers to, as the downward API writes it; raises ``Unsupported``."""
    if found := _ENTRY.fullmatch(path):
        return str(pod["metadata"].get(found[1], {}).get(found[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        entries = pod["metadata"].get(path.removeprefix("metadata."), {})
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    if path == "status.podIPs":
        return ",".join(entry["ip"] for entry in pod["status"]["podIPs"])
    section, _, name = path.partition(".")
    if section not in {"metadata", "spec", "status"} or "." in name:
        raise Unsupported(f"a fieldRef to {path}")
    return str(pod[section].get(name, ""))


def _referred(source: Object, pod: Object, objects: Objects) -> str | None:
    if "fieldRef" in source:
        return field(source["fieldRef"]["fieldPath"], pod)
    reference, kind = _kind_of(source, "KeyRef")
    name, key, optional = reference["name"], reference["key"], reference.get("optional", False)
    values = objects.files(kind, pod["metadata"]["namespace"], name, optional=optional)
    if key in values:
        return values[key].decode()
    if optional:
        return None
    raise NotStarted("CreateContainerConfigError", f"couldn't find key {key} in {kind} {name}")


def _kind_of(source: Object, suffix: str) -> tuple[Any, str]:
    for field_name, kind in ((f"configMap{suffix}", "ConfigMap"), (f"secret{suffix}", "Secret")):
        if field_name in source:
            return source[field_name], kind
    raise Unsupported(f"a variable from {', '.join(source)}")
