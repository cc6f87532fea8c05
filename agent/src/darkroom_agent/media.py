"""What kind of file some bytes are. Pure."""

from dataclasses import dataclass
from mimetypes import MimeTypes

import puremagic

#: What an input picture may be: the kinds that both engines read.
INPUT_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"})

_ALIASES = {"image/x-ms-bmp": "image/bmp"}
#: Python's own table, so that no host's mime.types changes the names of pictures.
_EXTENSIONS = MimeTypes()


@dataclass(frozen=True)
class MediaType:
    """A kind of file; ``extension`` has its dot."""

    name: str
    extension: str


def media_type(data: bytes) -> MediaType:
    """The kind of a file by its bytes."""
    try:
        found = puremagic.magic_string(data)[0]
    except (puremagic.PureError, ValueError):
        return MediaType("application/octet-stream", ".bin")
    name = _ALIASES.get(found.mime_type, found.mime_type) or "application/octet-stream"
    return MediaType(name, _EXTENSIONS.guess_extension(name, strict=False) or found.extension or ".bin")
