"""ComfyUI's views and uploads of files, in its three folders and nowhere else."""

import asyncio
import io
import mimetypes
from pathlib import Path

from aiohttp import web
from PIL import Image

from darkroom_demo.comfyui.nodes import Folders


class Files:
    """The handlers of /view and /upload/image."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    async def view(self, request: web.Request) -> web.StreamResponse:
        """Answer with a file of one of the folders, on request as a smaller WebP or JPEG preview."""
        filename = request.query.get("filename")
        if filename is None:
            return web.Response(status=404)
        folder = self.folders.of(request.query.get("type", "output"))
        if not filename or filename.startswith("/") or ".." in filename or folder is None:
            return web.Response(status=400)
        directory = (folder / request.query.get("subfolder", "")).resolve()
        if not directory.is_relative_to(folder.resolve()):
            return web.Response(status=403)
        path = directory / Path(filename).name
        if not path.is_file():
            return web.Response(status=404)
        headers = {"Content-Disposition": f'filename="{path.name}"'}
        if "preview" in request.query:
            form, body = await asyncio.to_thread(_preview, path, request.query["preview"])
            return web.Response(body=body, content_type=f"image/{form}", headers=headers)
        headers["Content-Type"] = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return web.FileResponse(path, headers=headers)

    async def upload(self, request: web.Request) -> web.Response:
        """Store an image; without `overwrite` a taken name gets a number, unless the content is the same."""
        form = await request.post()
        image, kind, subfolder = form.get("image"), str(form.get("type", "input")), str(form.get("subfolder", ""))
        folder = self.folders.of(kind)
        if not isinstance(image, web.FileField) or not image.filename or folder is None:
            return web.Response(status=400)
        path = (folder / subfolder / image.filename).resolve()
        if not path.is_relative_to(folder.resolve()):
            return web.Response(status=400)
        content = image.file.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        if form.get("overwrite") not in {"true", "1"}:
            path = _free_path(path, content)
        path.write_bytes(content)
        return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})


def _free_path(path: Path, content: bytes) -> Path:
    """Return the path, or with " (1)", " (2)", … before its ending the first that is free or has that content."""
    number, wanted = 1, path
    while path.exists() and path.read_bytes() != content:
        path = wanted.with_stem(f"{wanted.stem} ({number})")
        number += 1
    return path


def _preview(path: Path, wanted: str) -> tuple[str, bytes]:
    form, _, quality = wanted.partition(";")
    if form not in {"webp", "jpeg"}:
        form = "webp"
    buffer = io.BytesIO()
    with Image.open(path) as image:
        converted = image.convert("RGB") if form == "jpeg" else image
        converted.save(buffer, form, quality=int(quality) if quality.isdigit() else 90)
    return form, buffer.getvalue()
