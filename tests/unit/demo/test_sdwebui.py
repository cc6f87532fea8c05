import io
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import webuiapi
from PIL import Image, ImageChops, ImageStat

from darkroom_demo.notes import NOTE
from darkroom_demo.server import serving

# One client for all, also between threads: each new one costs more than a request.
HTTP = httpx.Client(timeout=30)
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 3}


def png_of(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()


ENCODED = png_of(Image.new("RGB", (64, 64), "magenta"))


def same(first: Image.Image, second: Image.Image) -> bool:
    """Whether these are the same picture, drawn in other batches."""
    return int(np.asarray(ImageChops.difference(first, second)).max()) <= 2


def client_of(url: str) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(baseurl=f"{url}/sdapi/v1", sampler="Euler")


def post(url: str, path: str, content: Any) -> httpx.Response:
    return HTTP.post(f"{url}/sdapi/v1/{path}", json=content)


def progress_when(url: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for the progress until it fits, and return it."""
    for _ in range(3_000):
        progress: dict[str, Any] = HTTP.get(f"{url}/sdapi/v1/progress").json()
        if fits(progress):
            return progress
    raise AssertionError(f"the progress never fitted; the last was {progress}")


def running(steps: int) -> Callable[[dict[str, Any]], bool]:
    return lambda progress: progress["state"]["job_count"] > 0 and progress["state"]["sampling_steps"] == steps


def pending(url: str) -> list[str]:
    tasks: list[str] = HTTP.get(f"{url}/internal/pending-tasks").json()["tasks"]
    return tasks


def test_txt2img_answers_with_pictures_and_what_they_were_made_of(webui: str) -> None:
    result = client_of(webui).txt2img(
        prompt="a cat", negative_prompt="red", seed=5, batch_size=2, n_iter=2, cfg_scale=6, **SMALL
    )
    assert [image.size for image in result.images] == [(64, 64)] * 4
    assert result.info["all_seeds"] == [5, 6, 7, 8]
    assert result.info["all_prompts"] == ["a cat"] * 4
    assert (result.info["seed"], result.info["sampler_name"], result.info["steps"]) == (5, "Euler", 3)
    assert result.parameters["negative_prompt"] == "red"
    assert result.images[1].info["parameters"] == result.info["infotexts"][1]
    assert result.info["infotexts"][1].startswith(
        "a cat\nNegative prompt: red\nSteps: 3, Sampler: Euler, Schedule type: Automatic, CFG scale: 6.0, Seed: 6,"
    )
    assert "Darkroom" in result.images[0].info


def test_a_seed_repeats_a_picture_and_no_seed_is_a_random_one(webui: str) -> None:
    api = client_of(webui)
    random = api.txt2img(prompt="a fox", **SMALL)
    again = api.txt2img(prompt="a fox", seed=random.info["seed"], **SMALL)
    assert random.image.tobytes() == again.image.tobytes()
    assert api.txt2img(prompt="a fox", **SMALL).info["seed"] != random.info["seed"]


def test_images_are_left_out_when_they_are_not_wanted(webui: str) -> None:
    assert client_of(webui).txt2img(prompt="a fox", send_images=False, **SMALL).images == []


def test_saving_several_images_puts_a_grid_before_them(webui: str) -> None:
    result = client_of(webui).txt2img(prompt="a fox", seed=1, batch_size=3, save_images=True, **SMALL)
    assert [image.size for image in result.images] == [(128, 128), (64, 64), (64, 64), (64, 64)]
    assert result.info["index_of_first_image"] == 1
    assert len(result.info["infotexts"]) == 4


def test_every_picture_of_a_request_is_that_of_its_seed(webui: str) -> None:
    api = client_of(webui)
    together = api.txt2img(prompt="a fox", seed=5, batch_size=2, n_iter=2, **SMALL).images
    assert len({image.tobytes() for image in together}) == 4
    alone = [api.txt2img(prompt="a fox", seed=seed, **SMALL).image for seed in (5, 6, 7, 8)]
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))


def test_with_a_variation_all_pictures_share_the_seed(webui: str) -> None:
    api = client_of(webui)
    varied = {"prompt": "a fox", "seed": 5, "subseed": 20, "subseed_strength": 0.4}
    together = api.txt2img(**varied, batch_size=2, **SMALL)
    assert (together.info["all_seeds"], together.info["all_subseeds"]) == ([5, 5], [20, 21])
    assert "Seed: 5, " in together.info["infotexts"][1]
    assert "Variation seed: 21, Variation seed strength: 0.4" in together.info["infotexts"][1]
    first, second = together.images
    assert not same(first, second)
    assert same(second, api.txt2img(**varied | {"subseed": 21}, **SMALL).image)
    assert same(
        api.txt2img(**varied | {"subseed_strength": 0}, **SMALL).image,
        api.txt2img(prompt="a fox", seed=5, **SMALL).image,
    )


def test_samplers_and_schedulers_change_the_picture(webui: str) -> None:
    api = client_of(webui)
    ways = [("Euler", None), ("Euler a", None), ("DDIM", None), ("Euler", "Karras"), ("DPM++ 2M Karras", None)]
    drawn = [
        api.txt2img(prompt="a fox", seed=1, sampler_name=sampler, scheduler=scheduler, **SMALL).image
        for sampler, scheduler in ways
    ]
    assert len({image.tobytes() for image in drawn}) == len(ways)


def test_a_picture_says_which_words_of_its_prompt_are_unknown(webui: str) -> None:
    result = client_of(webui).txt2img(prompt="a flurble and a fox", save_images=True, batch_size=2, **SMALL)
    assert [image.info.get(NOTE) for image in result.images] == [None, *["unknown: flurble"] * 2]
    assert NOTE not in client_of(webui).txt2img(prompt="a fox", **SMALL).image.info


def test_img2img_starts_from_the_initial_image(webui: str) -> None:
    api = client_of(webui)
    initial = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    results = [
        api.img2img(images=[initial], prompt="a fox", seed=1, denoising_strength=strength, **SMALL)
        for strength in (0, 0.9)
    ]
    changed = [sum(ImageStat.Stat(ImageChops.difference(result.image, initial)).mean) for result in results]
    assert changed[0] < changed[1]
    assert results[1].parameters["init_images"] is None


@pytest.mark.parametrize(("strength", "steps"), [(0.0, 1), (0.5, 6), (1.0, 10)])
def test_img2img_runs_the_last_share_of_the_steps(slow_webui: str, strength: float, steps: int) -> None:
    initial = {"init_images": [ENCODED], "denoising_strength": strength}
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, slow_webui, "img2img", SMALL | initial | {"steps": 10})
        progress_when(slow_webui, running(steps))
        client_of(slow_webui).interrupt()
        assert answer.result().status_code == 200


def test_img2img_takes_nothing_from_the_initial_images_file(webui: str) -> None:
    api = client_of(webui)
    initial = api.txt2img(prompt="a flurble", **SMALL).image
    assert NOTE in initial.info
    assert NOTE not in api.img2img(images=[initial], prompt="a fox", **SMALL).image.info


def test_a_mask_keeps_what_is_black(webui: str) -> None:
    initial = Image.new("RGB", (64, 64), "magenta")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    result = client_of(webui).img2img(
        images=[initial], mask_image=mask, prompt="a fox", seed=1, denoising_strength=1, **SMALL
    )
    difference = ImageChops.difference(result.image, initial)
    assert difference.crop((0, 0, 32, 32)).getbbox() is None
    assert difference.crop((32, 0, 64, 32)).getbbox() is not None


def test_extras_scale_one_image_and_several(webui: str) -> None:
    api = client_of(webui)
    image = Image.new("RGB", (20, 10), "teal")
    assert api.extra_single_image(image, upscaler_1="Lanczos", upscaling_resize=3).image.size == (60, 30)
    batch = api.extra_batch_images([image, image], upscaler_1="Nearest", upscaling_resize=2)
    assert [scaled.size for scaled in batch.images] == [(40, 20)] * 2


def test_png_info_reads_back_what_txt2img_wrote(webui: str) -> None:
    api = client_of(webui)
    picture = api.txt2img(prompt="a cat, at night", negative_prompt="a dog", seed=9, **SMALL)
    read = api.png_info(picture.image)
    assert read.info == picture.info["infotexts"][0]
    assert read.parameters["Prompt"] == "a cat, at night"
    assert (read.parameters["Negative prompt"], read.parameters["Seed"]) == ("a dog", "9")


@pytest.mark.parametrize(
    "name",
    [
        "get_cmd_flags",
        "get_embeddings",
        "get_face_restorers",
        "get_hypernetworks",
        "get_latent_upscale_modes",
        "get_loras",
        "get_memory",
        "get_options",
        "get_progress",
        "get_prompt_styles",
        "get_realesrgan_models",
        "get_samplers",
        "get_schedulers",
        "get_scripts",
        "get_sd_models",
        "get_sd_vae",
        "get_upscalers",
    ],
)
def test_what_clients_list_is_there(webui: str, name: str) -> None:
    answer = getattr(client_of(webui), name)()
    assert answer is not None
    assert "detail" not in answer


@pytest.mark.parametrize("path", ["interrupt", "refresh-checkpoints", "unload-checkpoint", "reload-checkpoint"])
def test_the_controls_answer_when_nothing_runs(webui: str, path: str) -> None:
    assert post(webui, path, {}).status_code == 200


def test_the_checkpoint_is_an_option_and_can_be_overridden_for_a_request(webui: str) -> None:
    api = client_of(webui)
    assert api.set_options({"sd_model_checkpoint": "sd_xl_base_1.0.safetensors"}) is None
    overridden = api.txt2img(override_settings={"sd_model_checkpoint": "flux1-schnell-fp8.safetensors"}, **SMALL)
    assert overridden.info["sd_model_name"] == "flux1-schnell-fp8"
    assert api.txt2img(**SMALL).info["sd_model_name"] == "sd_xl_base_1.0"
    assert api.util_get_current_model() == "sd_xl_base_1.0.safetensors"


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("txt2img", {"sampler_name": "nope"}, (404, "HTTPException", "Sampler not found")),
        ("txt2img", {"script_name": "nope"}, (422, "HTTPException", "Script 'nope' not found")),
        ("txt2img", {"alwayson_scripts": {"nope": {}}}, (422, "HTTPException", "Script 'nope' not found")),
        ("txt2img", {"width": 4096}, (500, "OutOfMemoryError", "not 4096x512")),
        ("txt2img", {"height": 32}, (500, "RuntimeError", "64 to 2048, not 512x32")),
        ("img2img", {}, (404, "HTTPException", "Init image not found")),
        ("img2img", {"init_images": []}, (500, "RuntimeError", "bad number of images passed: 0")),
        ("img2img", {"init_images": ["?"]}, (500, "HTTPException", "Invalid encoded image")),
        ("img2img", {"init_images": ["https://example.com/a.png"]}, (500, "HTTPException", "Requests not allowed")),
        ("png-info", {"image": "bm8gaW1hZ2U="}, (500, "HTTPException", "Invalid encoded image")),
        ("options", {"sd_model_checkpoint": "nope"}, (500, "RuntimeError", "model 'nope' not found")),
    ],
)
def test_errors_are_those_of_the_web_ui(
    webui: str, path: str, content: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    status, error, text = expected
    answer = post(webui, path, content)
    body = answer.json()
    assert (answer.status_code, body["error"]) == (status, error)
    assert text in body["detail"] + body["errors"]
    assert set(body) == {"error", "detail", "body", "errors"}


def test_values_of_a_wrong_type_are_listed_as_pydantic_lists_them(webui: str) -> None:
    answer = post(webui, "txt2img", {"steps": "many", "cfg_scale": [], "prompt": {}, "width": "64"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == [
        {"loc": ["body", "prompt"], "msg": "str type expected", "type": "type_error.str"},
        {"loc": ["body", "steps"], "msg": "value is not a valid integer", "type": "type_error.integer"},
        {"loc": ["body", "cfg_scale"], "msg": "value is not a valid float", "type": "type_error.float"},
    ]


def test_a_body_that_is_not_json_is_refused(webui: str) -> None:
    answer = HTTP.post(f"{webui}/sdapi/v1/txt2img", content=b"{")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "value_error.jsondecode"


def test_unknown_paths_and_methods_answer_as_fastapi_does(webui: str) -> None:
    assert HTTP.get(f"{webui}/nope").json() == {"detail": "Not Found"}
    assert HTTP.get(f"{webui}/sdapi/v1/txt2img").json() == {"detail": "Method Not Allowed"}


def test_the_progress_of_an_idle_web_ui_is_zero(webui: str) -> None:
    progress = client_of(webui).get_progress()
    assert (progress["progress"], progress["eta_relative"], progress["current_image"]) == (0, 0, None)
    assert progress["state"]["job_count"] == 0


def test_an_interrupted_request_answers_with_what_is_done_so_far(slow_webui: str) -> None:
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, slow_webui, "txt2img", SMALL | {"n_iter": 3, "steps": 11})
        progress = progress_when(slow_webui, running(11))
        assert (progress["state"]["job"], progress["state"]["job_count"]) == ("Batch 1 out of 3", 3)
        assert 0 < progress["progress"] < 0.1
        assert progress["current_image"] is None
        client_of(slow_webui).interrupt()
        body = answer.result().json()
    assert len(body["images"]) == 1
    assert len(json.loads(body["info"])["infotexts"]) == 1
    assert client_of(slow_webui).get_progress()["state"]["interrupted"] is True


def test_skipping_ends_one_batch_and_goes_on_with_the_next(slow_webui: str) -> None:
    api = client_of(slow_webui)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(post, slow_webui, "txt2img", SMALL | {"n_iter": 2, "steps": 11})
        progress_when(slow_webui, running(11))
        api.skip()
        progress_when(slow_webui, lambda progress: progress["state"]["job"] == "Batch 2 out of 2")
        api.skip()
        assert len(answer.result().json()["images"]) == 2


def test_the_steps_of_the_sampler_are_what_progress_tells() -> None:
    with serving("sdwebui") as server, ThreadPoolExecutor() as pool:
        api = client_of(server.url)
        api.set_options({"live_previews_enable": True})
        server.tempo.held.set()
        answer = pool.submit(post, server.url, "txt2img", SMALL | {"prompt": "a fox", "steps": 4, "seed": 1})
        held = progress_when(server.url, lambda progress: progress["current_image"] is not None)
        assert (held["state"]["sampling_step"], held["state"]["sampling_steps"]) == (0, 4)
        server.tempo.held.clear()
        final = b64decode(answer.result().json()["images"][0])
        first = b64decode(held["current_image"])
        assert Image.open(io.BytesIO(first)).tobytes() != Image.open(io.BytesIO(final)).tobytes()


def test_a_preview_is_there_for_who_switches_it_on() -> None:
    with serving("sdwebui", seconds_per_step=0.01) as server, ThreadPoolExecutor() as pool:
        api = client_of(server.url)
        api.set_options({"live_previews_enable": True})
        answer = pool.submit(post, server.url, "txt2img", SMALL | {"steps": 100_000})
        progress = progress_when(server.url, lambda progress: progress["current_image"] is not None)
        assert Image.open(io.BytesIO(b64decode(progress["current_image"]))).size == (64, 64)
        skipped = HTTP.get(f"{server.url}/sdapi/v1/progress", params={"skip_current_image": "true"}).json()
        assert skipped["current_image"] is None
        api.interrupt()
        assert answer.result().status_code == 200


def test_requests_run_one_after_the_other_in_the_order_of_their_arrival(slow_webui: str) -> None:
    def submit(pool: ThreadPoolExecutor, name: str, steps: int) -> Future[httpx.Response]:
        return pool.submit(post, slow_webui, "txt2img", SMALL | {"force_task_id": name, "steps": steps})

    with ThreadPoolExecutor() as pool:
        first = submit(pool, "first", 11)
        progress_when(slow_webui, running(11))
        second = submit(pool, "second", 22)
        progress_when(slow_webui, lambda _progress: pending(slow_webui) == ["second"])
        third = submit(pool, "third", 33)
        progress_when(slow_webui, lambda _progress: pending(slow_webui) == ["second", "third"])
        for answer, steps, waiting in ((first, 11, ["second", "third"]), (second, 22, ["third"]), (third, 33, [])):
            progress_when(slow_webui, running(steps))
            assert pending(slow_webui) == waiting
            assert not answer.done()
            client_of(slow_webui).interrupt()
            assert answer.result().json()["parameters"]["steps"] == steps


def task_progress(url: str, name: str) -> dict[str, Any]:
    progress: dict[str, Any] = HTTP.post(
        f"{url}/internal/progress", json={"id_task": name, "live_preview": False}
    ).json()
    return progress


def task_progress_when(url: str, name: str, flag: str) -> dict[str, Any]:
    """Ask for the progress of a named request until the flag is set, and return it."""
    for _ in range(3_000):
        progress = task_progress(url, name)
        if progress[flag]:
            return progress
    raise AssertionError(f"the request was never {flag}; the last answer was {progress}")


def test_a_named_request_is_queued_then_active_then_completed(slow_webui: str) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, slow_webui, "txt2img", SMALL | {"force_task_id": "first"})
        active = task_progress_when(slow_webui, "first", "active")
        assert active == active | {"queued": False, "completed": False, "live_preview": None, "id_live_preview": -1}
        second = pool.submit(post, slow_webui, "txt2img", SMALL | {"force_task_id": "second"})
        queued = task_progress_when(slow_webui, "second", "queued")
        assert queued == queued | {"active": False, "completed": False, "progress": None, "eta": None}
        assert queued["textinfo"] == "In queue: 1/1"
        client_of(slow_webui).interrupt()
        assert first.result().status_code == 200
        completed = task_progress(slow_webui, "first")
        assert completed == completed | {"active": False, "queued": False, "completed": True}
        task_progress_when(slow_webui, "second", "active")
        client_of(slow_webui).interrupt()
        assert second.result().status_code == 200


def test_the_progress_of_a_named_request_is_that_of_its_steps_and_batches() -> None:
    with serving("sdwebui", seconds_per_step=0.01) as server, ThreadPoolExecutor() as pool:
        body = SMALL | {"force_task_id": "long", "n_iter": 2, "steps": 100_000}
        answer = pool.submit(post, server.url, "txt2img", body)
        progress_when(server.url, lambda progress: progress["state"]["sampling_step"] > 0)
        assert 0 < task_progress(server.url, "long")["progress"] < 0.5
        client_of(server.url).skip()
        progress_when(server.url, lambda progress: progress["state"]["job_no"] == 1)
        assert 0.5 <= task_progress(server.url, "long")["progress"] < 1
        client_of(server.url).interrupt()
        assert answer.result().status_code == 200


def test_a_request_that_raised_is_called_active_until_the_next_begins(webui: str) -> None:
    assert post(webui, "txt2img", SMALL | {"force_task_id": "failing", "width": 4096}).status_code == 500
    stale = task_progress(webui, "failing")
    assert stale == stale | {"active": True, "queued": False, "completed": False, "progress": 0}
    assert post(webui, "txt2img", SMALL).status_code == 200
    gone = task_progress(webui, "failing")
    assert gone == gone | {"active": False, "completed": False, "textinfo": "Waiting..."}


def test_a_request_that_raised_before_it_began_stays_in_the_queue(webui: str) -> None:
    body = SMALL | {"force_task_id": "broken", "init_images": ["?"]}
    assert post(webui, "img2img", body).status_code == 500
    assert task_progress(webui, "broken")["queued"] is True


def test_the_last_sixteen_requests_are_remembered(webui: str) -> None:
    for number in range(17):
        post(webui, "txt2img", SMALL | {"force_task_id": f"task-{number}"})
    assert task_progress(webui, "task-0")["completed"] is False
    assert task_progress(webui, "task-1")["completed"] is True


def test_an_interrupt_is_taken_back_when_the_next_request_begins(webui: str) -> None:
    client_of(webui).interrupt()
    assert client_of(webui).get_progress()["state"]["interrupted"] is True
    assert len(post(webui, "txt2img", SMALL).json()["images"]) == 1
    assert client_of(webui).get_progress()["state"]["interrupted"] is False


def test_without_its_pages_there_is_no_internal_api() -> None:
    with serving("sdwebui", nowebui=True) as server:
        assert HTTP.post(f"{server.url}/internal/progress", json={"id_task": "a"}).status_code == 404
        assert HTTP.get(f"{server.url}/internal/ping").status_code == 404
        assert client_of(server.url).get_cmd_flags()["nowebui"] is True


def test_pictures_can_be_jpeg(webui: str) -> None:
    answer = post(webui, "txt2img", SMALL).json()
    assert b64decode(answer["images"][0]).startswith(b"\x89PNG")
    client_of(webui).set_options({"samples_format": "jpg"})
    try:
        answer = post(webui, "txt2img", SMALL).json()
        assert b64decode(answer["images"][0]).startswith(b"\xff\xd8")
    finally:
        client_of(webui).set_options({"samples_format": "png"})
