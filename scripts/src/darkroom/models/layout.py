"""Where a model's file goes: its key in the bucket, which is its path in the volume ``/models``. It reads folders."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from darkroom.cluster_files import ClusterFiles
from darkroom.models.formats import OTHERS, PICKLES, SAFETENSORS, folder_by_tensors
from darkroom.trouble import UsageError
from darkroom_contract.runtime import Runtime

#: The folders of the models volume (docs/engine-images.md), and what the engines' own folders for the same are called.
FOLDERS = {
    "checkpoints": ("stable-diffusion",),
    "loras": ("lora",),
    "vae": (),
    "embeddings": (),
    "upscalers": ("esrgan", "upscale_models"),
    "controlnet": (),
    "clip": ("text_encoders",),
    "clip_vision": (),
    "unet": (),
    "diffusion_models": (),
    "custom_nodes": (),
}
_CUSTOM_NODES = "custom_nodes"
_BY_NAME = {name: folder for folder, others in FOLDERS.items() for name in (folder, *others)}
#: As a runtime may name it (``runtime.checkpoint``). Mountpoint shows no key with other segments, nor longer ones
#: (mountpoint-s3, SEMANTICS.md; Linux: a name has at most 255 bytes), and the engines pass over hidden files.
_SEGMENT = re.compile(r"[^/.\s\\\x00-\x1f][^/\\\x00-\x1f]*")
_MAX_KEY_CHARACTERS = 256


@dataclass(frozen=True)
class Upload:
    """A file, and the key that it is to have."""

    path: Path
    key: str


@dataclass(frozen=True)
class Plan:
    """What is to be uploaded, and the files of folders that no engine would load."""

    uploads: tuple[Upload, ...]
    left_out: tuple[Path, ...]


def plan(paths: Sequence[Path], to: str | None, files: ClusterFiles) -> Plan:
    """Find files and name their keys; raises ``UsageError`` with all that is wrong, a line for each."""
    if to is not None:
        to = _folder(to.strip("/"), {*FOLDERS, *_own_folders(files)})
    uploads: list[Upload] = []
    left_out: list[Path] = []
    wrong: list[str] = []
    for path in paths:
        try:
            if not path.is_dir():
                uploads.append(_of_file(path, to))
                continue
            for upload in _in_folder(path, to):
                if _is_loaded(upload):
                    uploads.append(upload)
                else:
                    left_out.append(upload.path)
        except UsageError as error:
            wrong.append(str(error))
    wrong += (f"{each.path}: {problem}" for each in uploads if (problem := key_problem(each.key)))
    keys = [each.key for each in uploads]
    wrong += (f"{each.path}: another file goes to {each.key}, too" for each in uploads if keys.count(each.key) > 1)
    if not uploads and not wrong:
        wrong.append(f"there is no model in {' or '.join(map(str, paths))}: {_endings()}")
    if wrong:
        raise UsageError("\n".join(wrong))
    return Plan(tuple(uploads), tuple(left_out))


def key_problem(key: str) -> str | None:
    """Why a key cannot be, or could not be read by pods."""
    for segment in key.split("/"):
        if not _SEGMENT.fullmatch(segment):
            return f"{segment!r} in {key}: no name may be empty, begin with a dot or a space, or have a backslash"
        if len(segment.encode(errors="replace")) > 255:
            return f"{segment!r} is too long: Linux has names of at most 255 bytes"
    if len(key) > _MAX_KEY_CHARACTERS:
        return f"{key} is too long: at most {_MAX_KEY_CHARACTERS} characters"
    return None if key.isprintable() else f"{key!r} has a character that cannot be shown: rename the file"


def users(files: ClusterFiles, key: str) -> list[str]:
    """The runtimes that name a model: by their checkpoint, by a workflow, or by the folder of their custom nodes."""
    return [name for name, runtime in files.runtimes.items() if _uses(files, name, runtime, key)]


def _uses(files: ClusterFiles, name: str, runtime: Runtime, key: str) -> bool:
    folder, _, file = key.partition("/")
    if folder == "checkpoints" and runtime.checkpoint == file:
        return True
    if runtime.custom_nodes and key.startswith(f"{runtime.custom_nodes}/"):
        return True
    if key.startswith(f"{runtime.loras}/"):
        file = key.removeprefix(f"{runtime.loras}/")
    graphs = (workflow.graph for workflow in files.workflows.get(name, {}).values())
    return any(file in _texts(graph) for graph in graphs)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from _texts(each)
        case list() | tuple():
            for each in value:
                yield from _texts(each)


def _own_folders(files: ClusterFiles) -> Iterator[str]:
    """The folders that runtimes name themselves, and what is above them."""
    for runtime in files.runtimes.values():
        for folder in (runtime.loras, runtime.custom_nodes):
            if folder:
                yield folder.split("/", maxsplit=1)[0]


def _folder(folder: str, known: Collection[str]) -> str:
    first, _, rest = folder.partition("/")
    first = _BY_NAME.get(first.lower(), first)
    if first not in known:
        raise UsageError(
            f"--to {folder}: no engine looks there. It has to begin with one of {', '.join(sorted(known))}"
        )
    return f"{first}/{rest}" if rest else first


def _of_file(path: Path, to: str | None) -> Upload:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file. What is behind a URL, fetch first: curl -LO, or hf download")
    folder = to or _BY_NAME.get(path.resolve().parent.name.lower()) or folder_by_tensors(path)
    if folder is None or folder == _CUSTOM_NODES:
        raise UsageError(f"{path}: what is it? Say the folder by --to: {', '.join(FOLDERS)}, or a folder within")
    upload = Upload(path, f"{folder}/{path.name}")
    if not _is_loaded(upload):
        raise UsageError(f"{path}: no engine loads it: {_endings()}")
    return upload


def _in_folder(path: Path, to: str | None) -> Iterator[Upload]:
    """All files in a folder but hidden ones. Links to files are followed, as downloads from a cache are such."""
    own = to or _BY_NAME.get(path.resolve().name.lower())
    inner = [each for each in path.iterdir() if each.is_dir() and each.name.lower() in _BY_NAME]
    if own is None and not inner:
        raise UsageError(
            f"{path}: what is in it? Say the folder by --to, or have folders of these names in it: {', '.join(FOLDERS)}"
        )
    for root, folder in [(path, own)] if own else [(each, _BY_NAME[each.name.lower()]) for each in sorted(inner)]:
        for file in sorted(root.rglob("*")):
            within = PurePosixPath(*file.relative_to(root).parts)
            if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in within.parts):
                yield Upload(file, f"{folder}/{within}")


def _is_loaded(upload: Upload) -> bool:
    """Whether an engine may load a file. Custom nodes are programs, which have files of any kind."""
    return upload.key.startswith(f"{_CUSTOM_NODES}/") or upload.path.suffix.lower() in (*SAFETENSORS, *PICKLES, *OTHERS)


def _endings() -> str:
    return f"engines load {', '.join(SAFETENSORS)}, and with --allow-pickle {', '.join(PICKLES)}"
