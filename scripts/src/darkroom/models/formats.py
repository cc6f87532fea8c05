"""What a model's file is, by its content: safetensors that is whole, a pickle, or something else. It reads the file.

A pickle is a program: whoever loads one runs it. Safetensors has numbers and their names alone (its format:
github.com/huggingface/safetensors, README, "Format"; what its own loader refuses, ``safetensors/src/tensor.rs``, is
refused here as well).
"""

import io
import json
import math
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from darkroom.trouble import Trouble

#: What engines load as safetensors, and what they load by unpickling.
SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl")
#: What else belongs into a folder of models: settings beside a model, and what custom nodes of ComfyUI load.
OTHERS = (".gguf", ".json", ".txt", ".yaml")

_MAX_HEADER_BYTES = 100_000_000
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
#: How much of a file is looked at to tell whether it is a pickle.
_LOOK_BYTES = 64 * 1024
_MAX_ZIP_MEMBERS = 100_000


class ModelRefused(Trouble):
    """A file is no model that an engine would load, or one that runs as a program."""


def check(path: Path, *, allow_pickle: bool = False) -> None:
    """Refuse a file that is broken, or a pickle unless those are allowed; raises ``ModelRefused`` and ``OSError``."""
    ending = path.suffix.lower()
    with path.open("rb") as file:
        pickled = is_pickle(file)
        if ending in SAFETENSORS:
            if problem := safetensors_problem(file):
                pickle = "it is a pickle, whatever its name says: get the model as safetensors"
                raise ModelRefused(f"{path}: {pickle if pickled else problem}")
            return
        if ending in PICKLES and not pickled and safetensors_problem(file) is None:
            raise ModelRefused(f"{path}: it is safetensors: rename it to {path.with_suffix(SAFETENSORS[0]).name}")
    if not allow_pickle and (pickled or ending in PICKLES):
        raise ModelRefused(
            f"{path}: it is a pickle, a program that runs when an engine loads it: take the model as .safetensors, "
            "which has numbers alone, or say --allow-pickle if you trust whoever made it"
        )


def safetensors_problem(file: BinaryIO) -> str | None:
    """What is wrong with a file as safetensors; None if its header is right, and it has all bytes that this names."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        length = _length_of_header(file, size)
        _check_tensors(_header(file.read(length)), size - 8 - length)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        return f"it is no safetensors, or broken: {error}. Get it again"
    return None


def folder_by_tensors(path: Path) -> str | None:
    """The folder that safetensors belong into, where the names of the tensors tell.

    A checkpoint of Stable Diffusion has a diffusion model and a VAE (ComfyUI, ``comfy/supported_models_base.py``), and
    the weights of a LoRA all say so (``comfy/lora.py``).
    """
    if path.suffix.lower() not in SAFETENSORS:
        return None
    with path.open("rb") as file:
        try:
            length = _length_of_header(file, path.stat().st_size)
            names = [*_header(file.read(length))]
        except (TypeError, ValueError, RecursionError):
            return None
    has_model, has_vae = (
        any(n.startswith(start) for n in names) for start in ("model.diffusion_model.", "first_stage_")
    )
    if has_model and has_vae:
        return "checkpoints"
    return "loras" if names and all("lora" in name for name in names) else None


def _length_of_header(file: BinaryIO, size: int) -> int:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > _MAX_HEADER_BYTES:
        raise ValueError("it does not begin with the length of a header")
    if 8 + length > size:
        raise ValueError(f"it is cut off: its header alone has {length} bytes, and the file {size}")
    return length


def _header(raw: bytes) -> dict[str, Any]:
    header = json.loads(raw, object_pairs_hook=_without_twins) if raw.startswith(b"{") else None
    if not isinstance(header, dict):
        raise TypeError("its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TypeError("its metadata has other things than texts")
    return header


def _check_tensors(header: dict[str, Any], held: int) -> None:
    """Refuse tensors that are not one after another, or not as many bytes as there are behind the header."""
    end = 0
    for begin, after in sorted(_spans(header)):
        if begin != end:
            raise ValueError("its tensors overlap, or something is between them")
        end = after
    if end > held:
        raise ValueError(f"it is cut off: {end - held} bytes are missing")
    if end < held:
        raise ValueError(f"{held - end} bytes at its end belong to nothing")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _spans(header: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Where each tensor begins and ends behind the header; raises if its description does not agree with itself."""
    for name, tensor in header.items():
        begin, end = (_whole(each) for each in tensor["data_offsets"])
        elements = math.prod(_whole(each) for each in tensor["shape"])
        bits = _BITS.get(tensor["dtype"])
        # Of a type that is newer than this table only the place is known.
        if end < begin or (bits is not None and elements * bits != (end - begin) * 8):
            raise ValueError(f"{name} has not the size of its shape")
        yield begin, end


def _whole(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{number!r} is no whole number")
    return number


def is_pickle(file: BinaryIO) -> bool:
    """Whether a file is a pickle, or a zip with one in it, as PyTorch writes; reads at most 64 KiB of any."""
    file.seek(0)
    start = file.read(_LOOK_BYTES)
    if start.startswith(b"PK\x03\x04"):
        return _has_pickle(file)
    return _is_pickled(start)


def _has_pickle(file: BinaryIO) -> bool:
    """Whether a zip has a pickle in it. One that cannot be read counts as one, since it hides what it has."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            return len(members) > _MAX_ZIP_MEMBERS or any(_member_is_pickle(archive, each) for each in members)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        return True


def _member_is_pickle(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    if member.filename.endswith(".pkl"):
        return True
    with archive.open(member) as content:
        return _is_pickled(content.read(_LOOK_BYTES))


def _is_pickled(start: bytes) -> bool:
    """Whether bytes are a pickle, or its beginning: they are operations of the pickle machine, one after another."""
    operations = 0
    is_whole = goes_on = False
    try:
        for _ in pickletools.genops(start):
            operations += 1
        is_whole = True
    except ValueError as error:
        goes_on = len(start) == _LOOK_BYTES and "unknown" not in str(error)
    has_header = start[:1] == b"\x80" and start[1:2] <= b"\x05"
    return (has_header and goes_on) or (operations > 1 and (is_whole or goes_on or has_header))
