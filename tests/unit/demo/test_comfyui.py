import io
import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageChops, ImageStat

from darkroom_demo.diffusion.samplers import SAMPLERS
from darkroom_demo.notes import NOTE
from tests.unit.demo.comfyui_client import client_of, data_of, workflow


def png_of(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def upload(url: str, name: str, content: bytes, **form: str) -> httpx.Response:
    return httpx.post(f"{url}/upload/image", files={"image": (name, content)}, data=form)


def test_a_prompt_runs_and_its_picture_can_be_fetched(comfyui: str) -> None:
    with client_of(comfyui) as client:
        prompt_id = client.submit(workflow())
        messages = client.until_done(prompt_id)
        picture = client.view(**client.history(prompt_id)["outputs"]["9"]["images"][0])
    events = [event for event, _ in messages if event not in {"progress", "progress_state", "status"}]
    assert events == [
        "execution_start",
        "execution_cached",
        *["executing"] * 7,
        "executed",
        "execution_success",
        "executing",
    ]
    assert [data["value"] for data in data_of(messages, "progress")] == [1, 2, 3, 4]
    assert data_of(messages, "progress")[0] == {"value": 1, "max": 4, "prompt_id": prompt_id, "node": "3"}
    assert data_of(messages, "progress_state")[-1]["nodes"]["3"]["state"] == "finished"
    saved = {"filename": "ComfyUI_00001_.png", "subfolder": "", "type": "output"}
    assert data_of(messages, "executed")[0]["output"] == {"images": [saved]}
    image = Image.open(io.BytesIO(picture.content))
    assert image.size == (96, 64)
    assert json.loads(image.info["prompt"])["3"]["inputs"]["seed"] == 42
    assert "Darkroom" in image.info


def test_a_node_runs_after_what_it_depends_on(comfyui: str) -> None:
    with client_of(comfyui) as client:
        messages = client.until_done(client.submit(workflow()))
    order = [data["node"] for data in data_of(messages, "executing")]
    for node, content in workflow().items():
        for value in content["inputs"].values():
            if isinstance(value, list):
                assert order.index(value[0]) < order.index(node)


def test_a_client_sees_its_position_in_the_queue_when_it_connects(comfyui: str) -> None:
    with client_of(comfyui) as client:
        expected = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client.client_id}
        assert client.receive() == ("status", expected)


def test_the_workflow_is_kept_in_the_picture(comfyui: str) -> None:
    with client_of(comfyui) as client:
        prompt_id = client.submit(workflow(), extra_data={"extra_pnginfo": {"workflow": {"version": 0.4}}})
        client.until_done(prompt_id)
        picture = client.view(**client.history(prompt_id)["outputs"]["9"]["images"][0])
    assert json.loads(Image.open(io.BytesIO(picture.content)).info["workflow"]) == {"version": 0.4}


def test_the_id_of_the_caller_is_kept(comfyui: str) -> None:
    prompt_id = str(uuid.uuid4())
    with client_of(comfyui) as client:
        assert client.submit(workflow(), prompt_id=prompt_id) == prompt_id
        client.until_done(prompt_id)
        assert client.history(prompt_id)["status"] == {
            "status_str": "success",
            "completed": True,
            "messages": client.history(prompt_id)["status"]["messages"],
        }


def test_the_same_prompt_again_executes_nothing_and_still_has_its_outputs(comfyui: str) -> None:
    with client_of(comfyui) as client:
        first = client.submit(workflow())
        client.until_done(first)
        second = client.submit(workflow())
        messages = client.until_done(second)
        assert data_of(messages, "execution_cached")[0]["nodes"] == list(workflow())
        assert [data["node"] for data in data_of(messages, "executing")] == [None]
        assert client.history(second)["outputs"] == client.history(first)["outputs"]


def test_another_seed_executes_only_what_depends_on_it(comfyui: str) -> None:
    with client_of(comfyui) as client:
        client.until_done(client.submit(workflow(seed=1)))
        messages = client.until_done(client.submit(workflow(seed=2)))
    assert [data["node"] for data in data_of(messages, "executing")] == ["3", "8", "9", None]


def test_an_uploaded_image_that_changes_is_loaded_again(comfyui: str) -> None:
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "start.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    upload(comfyui, "start.png", png_of("red"))
    with client_of(comfyui) as client:
        client.until_done(client.submit(prompt))
        upload(comfyui, "start.png", png_of("blue"), overwrite="true")
        prompt_id = client.submit(prompt)
        client.until_done(prompt_id)
        shown = client.history(prompt_id)["outputs"]["2"]["images"][0]
        assert shown["type"] == "temp"
        assert Image.open(io.BytesIO(client.view(**shown).content)).getpixel((0, 0)) == (0, 0, 255)


def test_an_uploaded_image_can_be_the_start_of_a_picture(comfyui: str) -> None:
    assert upload(comfyui, "start.png", png_of("magenta")).json() == {
        "name": "start.png",
        "subfolder": "",
        "type": "input",
    }
    prompt = workflow(latent_image=["11", 0], denoise=0.0)
    prompt["10"] = {"class_type": "LoadImage", "inputs": {"image": "start.png"}}
    prompt["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    with client_of(comfyui) as client:
        prompt_id = client.submit(prompt)
        client.until_done(prompt_id)
        picture = client.view(**client.history(prompt_id)["outputs"]["9"]["images"][0])
    assert Image.open(io.BytesIO(picture.content)).getpixel((5, 5)) == (255, 0, 255)


def start_from(url: str, image: Image.Image, **sampler: Any) -> Image.Image:
    """Return the picture of the workflow with that image as its start."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    upload(url, "gradient.png", buffer.getvalue(), overwrite="true")
    prompt = workflow(latent_image=["11", 0], **sampler)
    prompt["10"] = {"class_type": "LoadImage", "inputs": {"image": "gradient.png"}}
    prompt["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    return pictures_of(url, prompt)[0]


def pictures_of(url: str, prompt: dict[str, Any]) -> list[Image.Image]:
    with client_of(url) as client:
        prompt_id = client.submit(prompt)
        client.until_done(prompt_id)
        saved = client.history(prompt_id)["outputs"]["9"]["images"]
        return [Image.open(io.BytesIO(client.view(**image).content)) for image in saved]


def batch_of(count: int, **sampler: Any) -> dict[str, Any]:
    prompt = workflow(**sampler)
    prompt["5"]["inputs"]["batch_size"] = count
    return prompt


def test_denoise_is_how_much_of_the_start_is_changed(comfyui: str) -> None:
    initial = Image.radial_gradient("L").resize((96, 96)).convert("RGB")
    changed = [
        sum(ImageStat.Stat(ImageChops.difference(start_from(comfyui, initial, denoise=denoise), initial)).mean)
        for denoise in (0.0, 0.2, 1.0)
    ]
    assert changed[0] == 0
    assert changed[0] < changed[1] < changed[2]


def test_all_steps_are_run_however_much_is_changed(comfyui: str) -> None:
    with client_of(comfyui) as client:
        messages = client.until_done(client.submit(workflow(denoise=0.3)))
    assert [(data["value"], data["max"]) for data in data_of(messages, "progress")] == [(n, 4) for n in (1, 2, 3, 4)]


def test_the_pictures_of_a_batch_differ_by_their_place_in_it_not_by_their_seed(comfyui: str) -> None:
    first, second = pictures_of(comfyui, batch_of(2, seed=1))
    alone = pictures_of(comfyui, batch_of(1, seed=1))[0]
    assert np.asarray(ImageChops.difference(first, alone)).max() <= 2
    for other in (first, pictures_of(comfyui, batch_of(1, seed=2))[0]):
        assert second.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    "changes", [{"sampler_name": "euler_ancestral"}, {"scheduler": "karras"}, {"cfg": 1.0}, {"steps": 3}]
)
def test_what_the_sampler_is_told_changes_the_picture(comfyui: str, changes: dict[str, Any]) -> None:
    assert pictures_of(comfyui, workflow(**changes))[0].tobytes() != pictures_of(comfyui, workflow())[0].tobytes()


def test_a_picture_says_which_words_of_its_prompt_are_unknown(comfyui: str) -> None:
    assert pictures_of(comfyui, workflow(text="a flurble and a fox"))[0].info[NOTE] == "unknown: flurble"
    assert NOTE not in pictures_of(comfyui, workflow(text="a fox"))[0].info


def test_an_upload_does_not_overwrite_another_image_unless_asked(comfyui: str) -> None:
    upload(comfyui, "a.png", png_of("red"))
    assert upload(comfyui, "a.png", png_of("red")).json()["name"] == "a.png"
    assert upload(comfyui, "a.png", png_of("blue")).json()["name"] == "a (1).png"
    assert upload(comfyui, "a.png", png_of("blue"), overwrite="true").json()["name"] == "a.png"


def test_a_node_that_fails_is_reported_and_the_next_prompt_runs(comfyui: str) -> None:
    prompt = workflow()
    prompt["9"]["inputs"]["images"] = ["10", 0]
    prompt["10"] = {"class_type": "DemoFail", "inputs": {"images": ["8", 0], "message": "no luck"}}
    with client_of(comfyui) as client:
        prompt_id = client.submit(prompt)
        error = data_of(client.until_done(prompt_id), "execution_error")[0]
        assert (error["node_id"], error["node_type"], error["exception_type"]) == ("10", "DemoFail", "RuntimeError")
        assert error["exception_message"] == "no luck\n"
        assert set(error["executed"]) == {"3", "4", "5", "6", "7", "8"}
        assert error["current_inputs"]["message"] == ["no luck"]
        assert "_fail" in "".join(error["traceback"])
        status = client.history(prompt_id)["status"]
        assert (status["status_str"], status["completed"]) == ("error", False)
        assert status["messages"][-1][0] == "execution_error"
        client.until_done(client.submit(workflow()))


def test_a_picture_that_is_too_large_fails_when_it_is_sampled(comfyui: str) -> None:
    prompt = workflow()
    prompt["5"]["inputs"]["width"] = 4096
    with client_of(comfyui) as client:
        error = data_of(client.until_done(client.submit(prompt)), "execution_error")[0]
    assert error["node_id"] == "3"
    assert "OutOfMemoryError" in error["exception_type"]


def test_the_running_prompt_is_interrupted_and_the_next_one_starts(slow_comfyui: str) -> None:
    with client_of(slow_comfyui) as client:
        first, second = client.submit(workflow(seed=1)), client.submit(workflow(seed=2))
        client.until_executing(first, "3")
        client.http.post("/interrupt")
        messages = client.until_done(first)
        interrupted = data_of(messages, "execution_interrupted")[0]
        assert (interrupted["node_id"], interrupted["node_type"]) == ("3", "KSampler")
        status = client.history(first)["status"]
        assert (status["status_str"], status["messages"][-1][0]) == ("error", "execution_interrupted")
        client.until_executing(second, "3")
        client.http.post("/interrupt", json={"prompt_id": second})
        assert data_of(client.until_done(second), "execution_interrupted")


def test_a_targeted_interrupt_spares_every_other_prompt(slow_comfyui: str) -> None:
    with client_of(slow_comfyui) as client:
        first, second = client.submit(workflow(seed=1)), client.submit(workflow(seed=2))
        client.until_executing(first, "3")
        assert client.http.post("/interrupt", json={"prompt_id": second}).status_code == 200
        assert client.http.post("/interrupt", json={"prompt_id": "unknown"}).status_code == 200
        queue = client.http.get("/queue").json()
        assert [item[1] for item in queue["queue_running"]] == [first]
        assert [item[1] for item in queue["queue_pending"]] == [second]
        assert client.http.get(f"/history/{first}").json() == {}


def test_the_queue_shows_prompts_in_their_order_and_lets_go_of_them(slow_comfyui: str) -> None:
    with client_of(slow_comfyui) as client:
        first = client.submit(workflow(seed=1))
        client.until_executing(first, "3")
        later, unwanted, urgent = (client.submit(workflow(seed=seed), front=seed == 4) for seed in (2, 3, 4))
        assert client.http.get("/prompt").json() == {"exec_info": {"queue_remaining": 4}}
        queue = client.http.get("/queue").json()
        assert [item[1] for item in queue["queue_pending"]] == [urgent, later, unwanted]
        number, prompt_id, prompt, extra_data, outputs = queue["queue_running"][0]
        assert (number, prompt_id, prompt["3"]["inputs"]["seed"], outputs) == (0, first, 1, ["9"])
        assert extra_data["client_id"] == client.client_id
        client.http.post("/queue", json={"delete": [unwanted]})
        assert [item[1] for item in client.http.get("/queue").json()["queue_pending"]] == [urgent, later]
        client.http.post("/queue", json={"clear": True})
        assert client.http.get("/queue").json()["queue_pending"] == []


def test_prompts_without_a_client_run_too_and_the_history_can_be_cleared(comfyui: str) -> None:
    with client_of(comfyui) as client:
        for seed in (1, 2, 3):
            httpx.post(f"{comfyui}/prompt", json={"prompt": workflow(seed=seed)})
        prompt_id = client.submit(workflow(seed=4))
        messages = client.until_done(prompt_id)
        # Only progress goes to everyone when a prompt names no client.
        assert {data["prompt_id"] for data in data_of(messages, "executing")} == {prompt_id}
        history = client.http.get("/history").json()
        assert len(history) == 4
        assert list(client.http.get("/history", params={"max_items": 2}).json()) == list(history)[2:]
        assert list(client.http.get("/history", params={"max_items": 2, "offset": 1}).json()) == list(history)[1:3]
        client.http.post("/history", json={"delete": [prompt_id]})
        assert prompt_id not in client.http.get("/history").json()
        client.http.post("/history", json={"clear": True})
        assert client.http.get("/history").json() == {}


def without_class(prompt: dict[str, Any]) -> None:
    del prompt["8"]["class_type"]


def unknown_class(prompt: dict[str, Any]) -> None:
    prompt["8"]["class_type"] = "Nope"


def without_output(prompt: dict[str, Any]) -> None:
    del prompt["9"]


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (without_class, "missing_node_type", "Node 'ID #8' has no class_type."),
        (unknown_class, "missing_node_type", "Node 'Nope' not found."),
        (without_output, "prompt_no_outputs", "Prompt has no outputs"),
    ],
)
def test_a_prompt_that_is_no_workflow_is_refused(
    comfyui: str, damage: Callable[[dict[str, Any]], None], kind: str, message: str
) -> None:
    prompt = workflow()
    damage(prompt)
    answer = httpx.post(f"{comfyui}/prompt", json={"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == kind
    assert answer.json()["error"]["message"].startswith(message)
    assert answer.json()["node_errors"] == {}


@pytest.mark.parametrize(
    ("inputs", "kind", "details"),
    [
        ({"steps": 0}, "value_smaller_than_min", "steps"),
        ({"steps": 10_001}, "value_bigger_than_max", "steps"),
        ({"steps": "many"}, "invalid_input_type", "steps, many, invalid literal for int() with base 10: 'many'"),
        ({"sampler_name": "nope"}, "value_not_in_list", f"sampler_name: 'nope' not in {list(SAMPLERS)}"),
        ({"model": ["4", 1]}, "return_type_mismatch", "model, received_type(CLIP) mismatch input_type(MODEL)"),
        ({"model": ["4"]}, "bad_linked_input", "model"),
    ],
)
def test_a_wrong_input_is_reported_with_its_node(comfyui: str, inputs: dict[str, Any], kind: str, details: str) -> None:
    answer = httpx.post(f"{comfyui}/prompt", json={"prompt": workflow(**inputs)})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "prompt_outputs_failed_validation"
    node = answer.json()["node_errors"]["3"]
    assert (node["class_type"], node["dependent_outputs"]) == ("KSampler", ["9"])
    assert [(error["type"], error["details"]) for error in node["errors"]] == [(kind, details)]
    assert node["errors"][0]["extra_info"]["input_name"] in inputs


def test_a_missing_input_and_an_unknown_file_are_reported(comfyui: str) -> None:
    prompt = workflow()
    del prompt["3"]["inputs"]["seed"]
    prompt["1"] = {"class_type": "LoadImage", "inputs": {"image": "../secret.png"}}
    prompt["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    errors = httpx.post(f"{comfyui}/prompt", json={"prompt": prompt}).json()["node_errors"]
    assert errors["3"]["errors"][0]["type"] == "required_input_missing"
    assert errors["1"]["errors"][0]["details"] == "image - Invalid image file: ../secret.png"


def test_outputs_that_are_right_run_although_another_is_wrong(comfyui: str) -> None:
    prompt = workflow()
    prompt["1"] = {"class_type": "PreviewImage", "inputs": {"images": ["99", 0]}}
    with client_of(comfyui) as client:
        answer = client.http.post("/prompt", json={"prompt": prompt, "client_id": client.client_id}).json()
        assert answer["node_errors"]["1"]["errors"][0]["type"] == "exception_during_validation"
        client.until_done(answer["prompt_id"])
        assert list(client.history(answer["prompt_id"])["outputs"]) == ["9"]


def test_a_cycle_is_refused(comfyui: str) -> None:
    prompt = {
        "1": {
            "class_type": "ImageScale",
            "inputs": {"image": ["1", 0], "upscale_method": "area", "width": 8, "height": 8, "crop": "disabled"},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    answer = httpx.post(f"{comfyui}/prompt", json={"prompt": prompt})
    assert answer.json()["node_errors"]["1"]["errors"][0]["type"] == "dependency_cycle"


@pytest.mark.parametrize(
    ("content", "kind"),
    [({}, "no_prompt"), ({"prompt": {}, "prompt_id": "not a uuid"}, "invalid_prompt_id")],
)
def test_a_request_without_a_prompt_or_with_a_wrong_id_is_refused(
    comfyui: str, content: dict[str, Any], kind: str
) -> None:
    answer = httpx.post(f"{comfyui}/prompt", json=content)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, kind)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 404),
        ({"filename": "missing.png"}, 404),
        ({"filename": "../secret.png"}, 400),
        ({"filename": "/etc/hostname"}, 400),
        ({"filename": "a.png", "type": "secrets"}, 400),
        ({"filename": "a.png", "subfolder": "../input"}, 403),
    ],
)
def test_a_view_of_what_is_not_there_or_not_allowed_is_refused(
    comfyui: str, query: dict[str, str], status: int
) -> None:
    upload(comfyui, "a.png", png_of("red"))
    assert httpx.get(f"{comfyui}/view", params=query).status_code == status


def test_a_view_can_be_a_smaller_preview(comfyui: str) -> None:
    upload(comfyui, "a.png", png_of("red"))
    query = {"filename": "a.png", "type": "input", "preview": "webp;50"}
    answer = httpx.get(f"{comfyui}/view", params=query)
    assert answer.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"


def test_an_image_is_not_saved_outside_the_output_folder(comfyui: str) -> None:
    prompt = workflow()
    prompt["9"]["inputs"]["filename_prefix"] = "../../escape"
    with client_of(comfyui) as client:
        error = data_of(client.until_done(client.submit(prompt)), "execution_error")[0]
    assert "outside the output folder is not allowed" in error["exception_message"]


def test_what_clients_list_is_there_with_and_without_the_prefix(comfyui: str) -> None:
    for prefix in ("", "/api"):
        info = httpx.get(f"{comfyui}{prefix}/object_info").json()
        assert info["SaveImage"]["output_node"] is True
        assert info["KSampler"]["input"]["required"]["steps"] == [
            "INT",
            {"default": 20, "min": 1, "max": 10000, "step": 1},
        ]
        assert httpx.get(f"{comfyui}{prefix}/object_info/KSampler").json() == {"KSampler": info["KSampler"]}
        assert httpx.get(f"{comfyui}{prefix}/object_info/Nope").json() == {}
        assert httpx.get(f"{comfyui}{prefix}/system_stats").json()["devices"][0]["type"] == "cpu"
        assert "v1-5-pruned-emaonly.safetensors" in httpx.get(f"{comfyui}{prefix}/models/checkpoints").json()
        assert httpx.get(f"{comfyui}{prefix}/models/nope").status_code == 404
