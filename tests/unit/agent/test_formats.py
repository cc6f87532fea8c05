"""Pictures are had in the format that is asked for, and both engines' pages still read how they were made."""

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, TiffTags
from PIL.ExifTags import IFD, Base
from PIL.PngImagePlugin import PngImageFile, PngInfo

from darkroom_agent.formats import converted
from darkroom_agent.media import media_type
from darkroom_contract.types import OutputFormat, PictureFormat

INFOTEXT = "a cat 猫 😀, ü\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 7, Size: 64x64"
PROMPT = '{"3": {"class_type": "KSampler", "inputs": {"seed": 7, "text": "ü 猫"}}}'
WORKFLOW = '{"nodes": [{"id": 3}], "links": []}'
TEXTS = {"parameters": INFOTEXT, "prompt": PROMPT, "workflow": WORKFLOW}
LOSSY = [PictureFormat.JPEG, PictureFormat.WEBP, PictureFormat.AVIF]


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    made = BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def png(image: Image.Image | None = None, texts: dict[str, str] | None = None) -> bytes:
    chunks = PngInfo()
    for name, text in (texts or {}).items():
        chunks.add_text(name, text)
    return file(image or Image.new("RGB", (64, 64), "teal"), pnginfo=chunks)


def opened(picture: bytes) -> Image.Image:
    image = Image.open(BytesIO(picture))
    image.load()
    return image


def to(picture: bytes, picture_format: PictureFormat, quality: int | None = None) -> Image.Image:
    """The converted picture, which is one of that format."""
    image = opened(converted(picture, OutputFormat(format=picture_format, quality=quality)))
    assert image.format == picture_format.upper()
    return image


def infotext(image: Image.Image) -> str | None:
    """As the web UI reads it: by piexif, which wants it "undefined", and Unicode in it as UTF-16, big end first."""
    comment = image.getexif().get_ifd(IFD.Exif).get(Base.UserComment)
    if comment is None:
        return None
    raw: bytes = image.info["exif"]
    order = "<" if b"II*\0" in raw[:10] else ">"
    assert struct.pack(f"{order}HH", Base.UserComment, TiffTags.UNDEFINED) in raw
    assert comment[:8] == b"UNICODE\0"
    text: str = comment[8:].decode("utf-16-be")
    return text


def graphs(image: Image.Image) -> dict[str, str]:
    """As ComfyUI's page reads them: every text of the first directory up to its colon is a name."""
    texts = [value.encode("latin-1").decode() for value in image.getexif().values() if isinstance(value, str)]
    return {text.partition(":")[0]: text.partition(":")[2] for text in texts}


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel."""
    extrema = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA")).getextrema()
    return max(int(high) for _, high in extrema)  # type: ignore[misc]


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@st.composite
def pictures(draw: st.DrawFn) -> Image.Image:
    """Pictures of one colour, in every mode that a PNG may have."""
    mode = draw(st.sampled_from(MODES))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    if mode == "I;16":
        return Image.new(mode, size, draw(st.integers(0, 65535)))
    colour = draw(st.tuples(*[st.integers(0, 255)] * 4))
    return Image.new("RGBA", size, colour).convert(mode, dither=Image.Dither.NONE)


@settings(deadline=None, max_examples=60)
@given(image=pictures(), picture_format=st.sampled_from(LOSSY), quality=st.none() | st.integers(1, 100))
def test_a_picture_of_any_mode_and_size_can_be_had_in_any_format(
    image: Image.Image, picture_format: PictureFormat, quality: int | None
) -> None:
    made = to(png(image), picture_format, quality)
    assert made.size == image.size
    assert made.mode in ("L", "RGB", "RGBA")
    if quality is None:
        seen = image.point(lambda value: value / 257).convert("L") if image.mode == "I;16" else image
        if picture_format is PictureFormat.JPEG:
            white = Image.new("RGBA", seen.size, "white")
            seen = Image.alpha_composite(white, seen.convert("RGBA"))
        if min(seen.convert("RGBA").getchannel("A").tobytes()) > 250:  # what cannot be seen may change
            assert difference(made, seen) <= 12


@settings(deadline=None, max_examples=30)
@given(image=pictures(), source=st.sampled_from(["JPEG", "WEBP", "AVIF", "GIF", "BMP"]))
def test_a_picture_of_any_other_format_can_be_had_as_png(image: Image.Image, source: str) -> None:
    image = image.convert("RGB")
    picture = file(image, source)
    assert difference(to(picture, PictureFormat.PNG), opened(picture)) == 0


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", png()[:60], file(Image.new("L", (9, 9)), "WEBP")]))
def test_no_bytes_are_lost_whatever_they_are(data: bytes, prefix: bytes) -> None:
    picture = prefix + data
    made = converted(picture, OutputFormat(format=PictureFormat.JPEG))
    assert made == picture or opened(made).format == "JPEG"


@pytest.mark.parametrize("picture_format", PictureFormat)
def test_a_picture_that_has_the_format_stays_byte_for_byte(picture_format: PictureFormat) -> None:
    picture = file(Image.effect_noise((32, 32), 50), picture_format.upper())
    assert converted(picture, OutputFormat(format=picture_format)) is picture


@pytest.mark.parametrize("picture_format", LOSSY)
def test_a_quality_is_met_even_if_the_picture_has_the_format(picture_format: PictureFormat) -> None:
    picture = file(Image.effect_noise((64, 64), 50).convert("RGB"), picture_format.upper(), quality=95)
    low, high = (converted(picture, OutputFormat(format=picture_format, quality=quality)) for quality in (10, 90))
    assert len(low) < len(high) < len(picture)


def test_webp_is_without_loss_at_quality_100_only() -> None:
    noise = Image.effect_noise((64, 64), 50).convert("RGB")
    assert difference(to(png(noise), PictureFormat.WEBP, 100), noise) == 0
    assert difference(to(png(noise), PictureFormat.WEBP, 99), noise) > 0


def test_a_transparent_picture_stays_so_where_the_format_can_and_is_flattened_on_white_in_jpeg() -> None:
    clear = png(Image.new("RGBA", (16, 16), (255, 0, 0, 0)))
    for picture_format in (PictureFormat.WEBP, PictureFormat.AVIF):
        assert to(clear, picture_format).getchannel("A").getextrema() == (0, 0)
    assert to(clear, PictureFormat.JPEG).getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("picture_format", LOSSY)
def test_a_palette_with_a_transparent_colour_is_understood(picture_format: PictureFormat) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    made = to(file(image, transparency=0), picture_format).convert("RGBA").getpixel((8, 8))
    assert made == (255, 255, 255, 255) if picture_format is PictureFormat.JPEG else made[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("picture_format", LOSSY)
def test_sixteen_bits_of_grey_become_eight(picture_format: PictureFormat) -> None:
    made = to(png(Image.new("I;16", (16, 16), 0x8080)), picture_format).convert("L").getpixel((8, 8))
    assert isinstance(made, int)
    assert abs(made - 0x80) <= 2


@pytest.mark.parametrize("picture_format", LOSSY)
@pytest.mark.parametrize("names", [{"parameters"}, {"prompt"}, {"prompt", "workflow"}, set(TEXTS), set()])
def test_both_pages_find_in_the_file_what_they_look_for(picture_format: PictureFormat, names: set[str]) -> None:
    texts = {name: text for name, text in TEXTS.items() if name in names}
    made = to(png(texts=texts), picture_format)
    assert infotext(made) == texts.get("parameters")
    assert graphs(made) == {name: text for name, text in texts.items() if name != "parameters"}


def test_texts_behind_the_pixels_are_found() -> None:
    plain = png()
    chunk = png(texts={"parameters": "x" * 40})
    text = chunk[chunk.index(b"tEXt") - 4 : chunk.index(b"IDAT") - 4]
    end = plain.index(b"IEND") - 4
    assert infotext(to(plain[:end] + text + plain[end:], PictureFormat.WEBP)) == "x" * 40


@pytest.mark.parametrize("first", LOSSY)
@pytest.mark.parametrize("then", PictureFormat)
def test_the_texts_go_from_any_format_to_any_other(first: PictureFormat, then: PictureFormat) -> None:
    made = to(converted(png(texts=TEXTS), OutputFormat(format=first)), then, None if then == "png" else 70)
    if isinstance(made, PngImageFile):
        assert dict(made.text) == TEXTS
    else:
        assert (infotext(made), graphs(made)) == (INFOTEXT, {"prompt": PROMPT, "workflow": WORKFLOW})


@pytest.mark.parametrize(
    ("workflow", "prompt", "parameters", "kept"),
    [
        (70_000, 10, 10, {"prompt", "parameters"}),
        (70_000, 70_000, 10, {"parameters"}),
        (60_000, 50_000, 10, {"prompt", "parameters"}),
        (10, 20, 40_000, {"workflow", "prompt"}),
        (10, 10, 30_000, {"parameters", "prompt", "workflow"}),
    ],
)
def test_a_jpeg_that_has_no_room_for_all_texts_does_without_the_longest(
    workflow: int, prompt: int, parameters: int, kept: set[str]
) -> None:
    texts = {"workflow": "w" * workflow, "prompt": "p" * prompt, "parameters": "i" * parameters}
    made = to(png(texts=texts), PictureFormat.JPEG)
    found = {"parameters": infotext(made), **graphs(made)}
    assert {name: text for name, text in found.items() if text is not None} == {name: texts[name] for name in kept}
    for picture_format in (PictureFormat.WEBP, PictureFormat.AVIF):
        made = to(png(texts=texts), picture_format)
        assert {"parameters": infotext(made), **graphs(made)} == texts


def test_a_picture_without_texts_gets_none() -> None:
    for picture_format in LOSSY:
        assert not to(png(), picture_format).getexif()


def test_what_else_exif_says_stays() -> None:
    exif = Image.Exif()
    exif[Base.Software] = "an engine"
    exif[IFD.Exif] = {Base.LensModel: "a lens"}
    picture = file(Image.new("RGB", (8, 8)), "JPEG", exif=exif)
    for picture_format in (PictureFormat.WEBP, PictureFormat.PNG):
        made = to(picture, picture_format).getexif()
        assert (made[Base.Software], made.get_ifd(IFD.Exif)[Base.LensModel]) == ("an engine", "a lens")


@pytest.mark.parametrize("picture_format", LOSSY)
def test_a_colour_profile_stays_with_its_colours(picture_format: PictureFormat) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = file(Image.new("RGB", (8, 8)), icc_profile=profile)
    assert to(picture, picture_format).info["icc_profile"] == profile


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_stays_as_it_is(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    picture = file(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    for output in (OutputFormat(format=PictureFormat.JPEG), OutputFormat(format=PictureFormat.WEBP, quality=50)):
        assert converted(picture, output) is picture


@pytest.mark.parametrize(
    "picture",
    [
        b"",
        b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
        b"\x1aE\xdf\xa3webm",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        png()[:-30],
        file(Image.new("F", (4, 4)), "TIFF"),
    ],
)
def test_what_is_no_picture_that_can_be_converted_stays_as_it_is(picture: bytes) -> None:
    assert converted(picture, OutputFormat(format=PictureFormat.WEBP, quality=1)) is picture


def test_a_picture_that_is_too_large_for_the_format_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    wide = png(Image.new("L", (16384, 1)))
    assert converted(wide, OutputFormat(format=PictureFormat.WEBP)) is wide
    assert "not converted" in caplog.text


@pytest.mark.parametrize(
    ("picture_format", "name", "extension"),
    [
        (PictureFormat.PNG, "image/png", ".png"),
        (PictureFormat.JPEG, "image/jpeg", ".jpg"),
        (PictureFormat.WEBP, "image/webp", ".webp"),
        (PictureFormat.AVIF, "image/avif", ".avif"),
    ],
)
def test_a_converted_picture_is_saved_under_its_format_s_name(
    picture_format: PictureFormat, name: str, extension: str
) -> None:
    kind = media_type(converted(png(texts=TEXTS), OutputFormat(format=picture_format)))
    assert (kind.name, kind.extension) == (name, extension)
