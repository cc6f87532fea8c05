"""The AUTOMATIC1111 web UI's HTTP API: routes, the state behind /progress, the queue lock, the errors.

Follows modules/api/api.py of the web UI 1.10. Requests wait for one lock in the order of their arrival; drawing runs in
a thread under it, and the encoding of the images after it is released. Saved images go to the given folder.
"""

import asyncio
import base64
import io
import os
import resource
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from PIL import Image

from darkroom_demo import catalog
from darkroom_demo.drawing import Tempo, png
from darkroom_demo.sdwebui.images import upscale
from darkroom_demo.sdwebui.processing import Processor, Task, checkpoint
from darkroom_demo.sdwebui.request import (
    EXTRAS_BATCH,
    EXTRAS_SINGLE,
    IMG2IMG,
    INTERROGATE,
    PNG_INFO,
    PROGRESS,
    TXT2IMG,
    ApiError,
    InvalidRequestError,
    decode_image,
    parse,
    parse_infotext,
    parse_object,
    sampler_and_scheduler,
)
from darkroom_demo.sdwebui.state import State
from darkroom_demo.sdwebui.tasks import Tasks

LISTS: dict[str, Any] = {
    "sd-models": [
        {
            "title": name,
            "model_name": Path(name).stem,
            # As the real one before it has hashed a file; there is no file to hash.
            "hash": None,
            "sha256": None,
            "filename": f"/models/Stable-diffusion/{name}",
            "config": None,
        }
        for name in catalog.CHECKPOINTS
    ],
    "samplers": [
        {"name": name, "aliases": list(known.aliases), "options": {}} for name, known in catalog.WEBUI_SAMPLERS.items()
    ],
    "schedulers": [
        {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name, label in catalog.WEBUI_SCHEDULERS.items()
    ],
    "upscalers": [
        {"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
        for name in catalog.WEBUI_UPSCALERS
    ],
    "latent-upscale-modes": [{"name": name} for name in catalog.WEBUI_LATENT_UPSCALERS],
    "loras": [
        {"name": Path(name).stem, "alias": Path(name).stem, "path": f"/models/Lora/{name}", "metadata": {}}
        for name in catalog.LORAS
    ],
    "embeddings": {"loaded": {}, "skipped": {}},
    "scripts": {"txt2img": [], "img2img": []},
} | {
    name: []
    for name in (
        "sd-vae",
        "hypernetworks",
        "face-restorers",
        "realesrgan-models",
        "prompt-styles",
        "script-info",
        "extensions",
    )
}


class WebUI:
    """One web UI: its options, its state, its lock. Started with --nowebui it has no internal API."""

    def __init__(self, tempo: Tempo, folder: Path, *, nowebui: bool = False) -> None:
        self.nowebui = nowebui
        self.state = State()
        self.tasks = Tasks()
        self.queue_lock = asyncio.Lock()
        self.options: dict[str, Any] = {
            "samples_format": "png",
            "jpeg_quality": 80,
            "sd_model_checkpoint": catalog.CHECKPOINTS[0],
            "sd_checkpoint_hash": "",
            "sd_vae": "Automatic",
            "CLIP_stop_at_last_layers": 1,
            # Off, so that nobody pays for previews who has not asked: as with the web UI's own setting.
            "live_previews_enable": False,
            "show_progress_every_n_steps": 10,
        }
        self.processor = Processor(self.state, self.tasks, self.options, tempo, folder)

    def application(self) -> web.Application:
        """Return the aiohttp application with all routes."""
        app = web.Application(client_max_size=0, middlewares=[_errors])
        posts = {
            "txt2img": self.txt2img,
            "img2img": self.img2img,
            "extra-single-image": self.extra_single_image,
            "extra-batch-images": self.extra_batch_images,
            "png-info": self.png_info,
            "interrogate": self.interrogate,
            "interrupt": self.interrupt,
            "skip": self.skip,
            "options": self.set_options,
            "refresh-checkpoints": self.refresh,
            "refresh-vae": self.refresh,
            "unload-checkpoint": _empty,
            "reload-checkpoint": _empty,
        }
        app.add_routes([web.post(f"/sdapi/v1/{path}", handler) for path, handler in posts.items()])
        app.add_routes([web.get(f"/sdapi/v1/{path}", _constant(value)) for path, value in LISTS.items()])
        app.router.add_get("/sdapi/v1/options", self.get_options)
        app.router.add_get("/sdapi/v1/progress", self.progress)
        app.router.add_get("/sdapi/v1/memory", _memory)
        flags = {"api": True, "listen": True, "nowebui": self.nowebui}
        app.router.add_get("/sdapi/v1/cmd-flags", _constant(flags))
        if not self.nowebui:
            app.router.add_get("/internal/ping", _empty)
            app.router.add_get("/internal/pending-tasks", self.pending)
            app.router.add_post("/internal/progress", self.task_progress)
        app.on_shutdown.append(self._stop)
        app.on_cleanup.append(self._stop)
        return app

    async def _stop(self, _app: web.Application) -> None:
        self.state.interrupt()

    async def txt2img(self, request: web.Request) -> web.Response:
        """Answer with the pictures of a prompt."""
        parameters = parse(await request.read(), TXT2IMG)
        return await self._generate("txt2img", parameters)

    async def img2img(self, request: web.Request) -> web.Response:
        """Answer with pictures that start from images."""
        parameters = parse(await request.read(), IMG2IMG)
        initial = parameters["init_images"]
        if initial is None:
            raise ApiError(404, "Init image not found")
        mask = decode_image(parameters["mask"]) if parameters["mask"] else None
        if not parameters["include_init_images"]:
            parameters |= {"init_images": None, "mask": None}
        return await self._generate("img2img", parameters, tuple(initial), mask)

    async def _generate(
        self,
        kind: Literal["txt2img", "img2img"],
        parameters: dict[str, Any],
        initial: tuple[Any, ...] = (),
        mask: Image.Image | None = None,
    ) -> web.Response:
        _check_scripts(parameters)
        name = parameters["sampler_name"] or parameters["sampler_index"]
        task_id = parameters["force_task_id"] or f"task({kind}-{uuid.uuid4().hex[:7]})"
        task = Task(task_id, kind, parameters, *sampler_and_scheduler(name, parameters["scheduler"]), initial, mask)
        self.tasks.add(task_id)
        async with self.queue_lock:
            images, info = await asyncio.to_thread(self.processor.run, task)
        encoded = await asyncio.to_thread(self._encode_all, images) if parameters["send_images"] else []
        return web.json_response({"images": encoded, "parameters": parameters, "info": info})

    def _encode_all(self, images: list[Image.Image]) -> list[str]:
        return [self._encode(image) for image in images]

    def _encode(self, image: Image.Image) -> str:
        form = self.options["samples_format"].lower()
        if form == "png":
            texts = {key: text for key, text in image.info.items() if isinstance(key, str) and isinstance(text, str)}
            return base64.b64encode(png(image, texts)).decode()
        if form not in {"jpg", "jpeg", "webp"}:
            raise ApiError(500, "Invalid image format")
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "WEBP" if form == "webp" else "JPEG", quality=self.options["jpeg_quality"])
        return base64.b64encode(buffer.getvalue()).decode()

    async def extra_single_image(self, request: web.Request) -> web.Response:
        """Answer with one image, upscaled."""
        values = parse(await request.read(), EXTRAS_SINGLE)
        encoded, html_info = await self._upscaled(values, [decode_image(values["image"])])
        return web.json_response({"html_info": html_info, "image": encoded[0]})

    async def extra_batch_images(self, request: web.Request) -> web.Response:
        """Answer with several images, upscaled."""
        values = parse(await request.read(), EXTRAS_BATCH)
        images = [decode_image(item["data"]) for item in values["imageList"]]
        encoded, html_info = await self._upscaled(values, images)
        return web.json_response({"html_info": html_info, "images": encoded})

    async def _upscaled(self, values: dict[str, Any], images: list[Image.Image]) -> tuple[list[str], str]:
        async with self.queue_lock:
            self.state.begin("extras")
            try:
                upscaled = await asyncio.to_thread(lambda: [upscale(image, values) for image in images])
            finally:
                self.state.end()
        encoded = await asyncio.to_thread(self._encode_all, upscaled)
        name = values["upscaler_1"]
        scale = f"Postprocess upscale by: {values['upscaling_resize']}, Postprocess upscaler: {name}"
        return encoded, "" if name == "None" else f"<p>{scale}</p>"

    async def png_info(self, request: web.Request) -> web.Response:
        """Answer with the texts in an image."""
        image = decode_image(parse(await request.read(), PNG_INFO)["image"].strip())
        items = {key: text for key, text in image.info.items() if isinstance(text, str)}
        infotext = items.pop("parameters", "")
        return web.json_response({"info": infotext, "items": items, "parameters": parse_infotext(infotext)})

    async def interrogate(self, request: web.Request) -> web.Response:
        """Answer with a caption; the same for every image."""
        values = parse(await request.read(), INTERROGATE)
        decode_image(values["image"])
        if values["model"] not in {"clip", "deepdanbooru"}:
            raise ApiError(404, "Model not found")
        return web.json_response({"caption": "a picture, drawn by the demo runtime"})

    async def progress(self, request: web.Request) -> web.Response:
        """Answer with the state of the running request."""
        share, remaining = self.state.progress()
        answer = {"progress": share, "eta_relative": remaining, "state": self.state.snapshot()}
        preview, skip = self.state.preview, request.query.get("skip_current_image", "false").lower()
        image = None
        if self.options["live_previews_enable"] and preview and skip not in {"true", "1", "yes", "on"}:
            image = await asyncio.to_thread(lambda: self._encode(preview()))
        return web.json_response(answer | {"current_image": image, "textinfo": None})

    async def interrupt(self, _request: web.Request) -> web.Response:
        """End the running request with what is done so far."""
        self.state.interrupt()
        return web.json_response({})

    async def skip(self, _request: web.Request) -> web.Response:
        """End the running batch; the request goes on with the next."""
        self.state.skip()
        return web.json_response(None)

    async def get_options(self, _request: web.Request) -> web.Response:
        """Answer with the options."""
        return web.json_response(self.options)

    async def set_options(self, request: web.Request) -> web.Response:
        """Change options; the checkpoint has to be one of the list."""
        settings = parse_object(await request.read())
        name = settings.get("sd_model_checkpoint")
        if name is not None and checkpoint(name) is None:
            raise RuntimeError(f"model {name!r} not found")
        self.processor.override(settings)
        return web.json_response(None)

    async def refresh(self, _request: web.Request) -> web.Response:
        """Do nothing, once no request runs."""
        async with self.queue_lock:
            return web.json_response(None)

    async def pending(self, _request: web.Request) -> web.Response:
        """Answer with the requests that wait for the lock."""
        return web.json_response({"size": len(self.tasks.pending), "tasks": list(self.tasks.pending)})

    async def task_progress(self, request: web.Request) -> web.Response:
        """Answer with the state of the request that is named."""
        asked = parse(await request.read(), PROGRESS)
        return web.json_response(self.tasks.progress(asked["id_task"], asked["id_live_preview"], self.state))


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Give errors the bodies that FastAPI and the web UI's exception handler give them."""
    try:
        return await handler(request)
    except InvalidRequestError as error:
        return web.json_response({"detail": error.errors}, status=422)
    except ApiError as error:
        body = {"error": "HTTPException", "detail": error.detail, "body": "", "errors": ""}
        return web.json_response(body, status=error.status)
    except web.HTTPNotFound:
        return web.json_response({"detail": "Not Found"}, status=404)
    except web.HTTPMethodNotAllowed:
        return web.json_response({"detail": "Method Not Allowed"}, status=405)
    except Exception as error:  # noqa: BLE001 - every exception becomes an answer
        body = {"error": type(error).__name__, "detail": "", "body": "", "errors": str(error)}
        return web.json_response(body, status=500)


def _constant(value: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response(value)

    return handler


_empty = _constant({})


async def _memory(_request: web.Request) -> web.Response:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ram = {"free": total - used, "used": used, "total": total}
    return web.json_response({"ram": ram, "cuda": {"error": "unavailable"}})


def _check_scripts(parameters: Mapping[str, Any]) -> None:
    """Raise `ApiError` 422 if a script is named: none is installed."""
    for name in [parameters["script_name"], *(parameters["alwayson_scripts"] or {})]:
        if name:
            raise ApiError(422, f"Script '{name}' not found")
