"""What is in a cluster's folder where nobody reads it, and where it was meant to be. It looks at names alone."""

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from darkroom.documents import Finding

#: What a cluster's and a runtime's folder have.
CLUSTER_ENTRIES = ("cluster.yaml", "eksctl.yaml", "images.yaml", "runtimes")
RUNTIME_ENTRIES = ("runtime.yaml", "workflows")
#: What is written to be read: it is in the wrong place. Anything else is only worth a note.
_DATA = (".yaml", ".yml", ".json")


def in_cluster(entries: Collection[Path]) -> Iterator[Finding]:
    """A cluster's folder may have other things: only what has nearly the name of a thing that is missing is meant."""
    for path in _unknown(entries, CLUSTER_ENTRIES):
        if name := _missing_name(path, entries, CLUSTER_ENTRIES):
            yield Finding(path, 1, "", f"it is not read: call it {name}")


def in_runtimes(entries: Iterable[Path]) -> Iterator[Finding]:
    """The files beside the runtimes' folders."""
    for path in _unknown(entries, ()):
        if not path.is_dir():
            yield _stray(path, f"a runtime is a folder: move it to {path.stem}/runtime.yaml")


def in_runtime(entries: Collection[Path]) -> Iterator[Finding]:
    """What is in a runtime's folder beside its file and its workflows."""
    for path in _unknown(entries, RUNTIME_ENTRIES):
        name = _missing_name(path, entries, RUNTIME_ENTRIES)
        if name:
            yield Finding(path, 1, "", f"it is not read: call it {name}")
        elif path.is_dir():
            yield _stray(path, "only runtime.yaml and the files in workflows/ are")
        else:
            yield _stray(path, f"a workflow would be workflows/{path.stem}.yaml")


def in_workflows(entries: Iterable[Path]) -> Iterator[Finding]:
    """What is among a runtime's workflows and is none."""
    for path in _unknown(entries, ()):
        if path.suffix == ".yaml":
            continue
        if path.is_dir():
            yield _stray(path, "move its files up, beside it")
        elif path.suffix == ".json":
            yield _stray(path, f"write it into {path.stem}.yaml, as workflows.{path.stem}.graph")
        else:
            yield _stray(path, f"call it {path.stem}.yaml")


def _unknown(entries: Iterable[Path], known: Collection[str]) -> Iterator[Path]:
    ignored = (".", "README", "readme")
    return (path for path in entries if path.name not in known and not path.name.startswith(ignored))


def _missing_name(path: Path, entries: Collection[Path], known: Collection[str]) -> str | None:
    there = {entry.name for entry in entries}
    near = get_close_matches(path.name.lower(), [name for name in known if name not in there], n=1, cutoff=0.8)
    return near[0] if near else None


def _stray(path: Path, remedy: str) -> Finding:
    is_data = path.is_dir() or path.suffix.lower() in _DATA
    return Finding(path, 1, "", f"it is not read: {remedy if is_data else 'nothing needs it'}", is_error=is_data)
