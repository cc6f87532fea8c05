"""Pictures in the file format that a client wants, with the generation parameters still in them. Pure.

The parameters go where the engines' own savers put them, so that either page reads them back from the file:

- the web UI's (modules/images.py, ``save_image_with_geninfo``): ``parameters``, in EXIF's UserComment;
- ComfyUI's (comfy_api/latest/_ui.py, ``_create_webp_metadata``): ``prompt`` and ``workflow``, in EXIF's Model and Make
  with their names before them. Its page looks for them in PNG, WebP and AVIF, but not in JPEG.

In a PNG all of them are text chunks of those names.
"""

from io import BytesIO
from logging import getLogger
from typing import Any

from PIL import Image, TiffTags, UnidentifiedImageError
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngImageFile, PngInfo

from darkroom_contract.types import OutputFormat, PictureFormat

log = getLogger(__name__)

#: Of these a copy in another format shows the same picture; who saves an EXR or a TIFF has a reason for it.
_CONVERTIBLE = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP")
#: The web UI's own default (``jpeg_quality``), for every format that has one.
_QUALITY = 80
#: piexif's form of Unicode in a UserComment, which the web UI writes and reads.
_UNICODE, _UTF_16 = b"UNICODE\0", "utf_16_be"
# Pillow would write it as bytes; EXIF has it "undefined", and piexif reads it as text only if it is.
TiffTags.TAGS_V2_GROUPS[IFD.Exif][Base.UserComment] = TiffTags.TagInfo(Base.UserComment, type=TiffTags.UNDEFINED)
_COMFYUI_TAGS = {"prompt": Base.Model, "workflow": Base.Make}
#: Pillow's modes without colours.
_GREY = frozenset({"1", "L", "LA", "I", "I;16"})
#: What a JPEG's segment holds.
_MAX_JPEG_EXIF_BYTES = 65533


def converted(picture: bytes, output: OutputFormat) -> bytes:
    """The picture in the format; or as it is, if it has the format and no quality is asked for, or is no still picture.

    What cannot be read, or is too large for the format (WebP has at most 16383 pixels a side), stays as it is, too.
    """
    try:
        with Image.open(BytesIO(picture), formats=_CONVERTIBLE) as image:
            is_right = image.format == output.format.upper() and output.quality is None
            if is_right or getattr(image, "is_animated", False):
                return picture
            return _saved(image, output)
    except UnidentifiedImageError:
        return picture
    except Exception:
        # Pillow raises nearly anything over a broken file, and whatever happens, the picture is not lost.
        log.warning("picture not converted", extra={"format": output.format}, exc_info=True)
        return picture


def _saved(image: Image.Image, output: OutputFormat) -> bytes:
    image.load()  # a PNG's texts may stand behind its pixels
    ready = _in_mode_of(output.format, image)
    # A profile is for grey or for colours.
    profile = image.info.get("icc_profile") if (image.mode in _GREY) == (ready.mode in _GREY) else None
    options: dict[str, Any] = {"icc_profile": profile}
    texts = _texts(image)
    if output.format is PictureFormat.PNG:
        options |= {"pnginfo": _text_chunks(texts), "exif": _exif(image, {}, output.format)}
    else:
        options |= {"quality": output.quality or _QUALITY, "exif": _exif(image, texts, output.format)}
    if output.format is PictureFormat.WEBP and output.quality == 100:
        # Quality is effort then.
        options |= {"lossless": True, "quality": _QUALITY}
    file = BytesIO()
    ready.save(file, output.format.upper(), **options)
    return file.getvalue()


def _in_mode_of(picture_format: PictureFormat, image: Image.Image) -> Image.Image:
    """The picture in RGB, RGBA or grey, 8 bits a channel, as far as the format has them."""
    if image.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
        image = image.point(lambda value: value / 257).convert("L")
    if not image.has_transparency_data:
        is_grey = image.mode in _GREY and picture_format is not PictureFormat.WEBP
        return image.convert("L" if is_grey else "RGB")
    image = image.convert("RGBA")
    if picture_format is not PictureFormat.JPEG:
        return image
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image)
    return flat.convert("RGB")


def _texts(image: Image.Image) -> dict[str, str]:
    """The generation parameters by their names."""
    if isinstance(image, PngImageFile):
        return dict(image.text)
    exif, texts = image.getexif(), {}
    comment = exif.get_ifd(IFD.Exif).get(Base.UserComment)
    if isinstance(comment, bytes) and comment.startswith(_UNICODE):
        texts["parameters"] = comment.removeprefix(_UNICODE).decode(_UTF_16, "replace")
    for name, tag in _COMFYUI_TAGS.items():
        value = exif.get(tag)
        if isinstance(value, str) and value.startswith(f"{name}:"):
            # Pillow takes EXIF's texts for Latin-1; they are UTF-8.
            texts[name] = value.removeprefix(f"{name}:").encode("latin_1").decode(errors="replace")
    return texts


def _text_chunks(texts: dict[str, str]) -> PngInfo:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    return chunks


def _exif(image: Image.Image, texts: dict[str, str], picture_format: PictureFormat) -> bytes:
    """The picture's own EXIF data, and the texts; of those that a JPEG has no room for, the longest are left out."""
    exif = image.getexif()
    if "parameters" in texts:
        comment = _UNICODE + texts["parameters"].encode(_UTF_16)
        exif[IFD.Exif] = {**exif.get_ifd(IFD.Exif), Base.UserComment: comment}
    for name, tag in _COMFYUI_TAGS.items():
        if name in texts:
            exif[tag] = f"{name}:{texts[name]}".encode()
    if picture_format is PictureFormat.JPEG:
        tags = {**_COMFYUI_TAGS, "parameters": IFD.Exif}
        for name in sorted(tags.keys() & texts.keys(), key=lambda name: len(texts[name]), reverse=True):
            if len(exif.tobytes()) > _MAX_JPEG_EXIF_BYTES:
                exif.pop(tags[name])
    return exif.tobytes() if exif else b""
