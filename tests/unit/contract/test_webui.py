"""A web UI that many use: what it cannot do, and what no job may change of it for the others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_contract.job import FieldError
from darkroom_contract.types import Engine, Task
from darkroom_contract.webui import hardened, impossible
from tests.unit.contract.test_jobs import v1_job


@pytest.mark.parametrize(
    ("content", "safe"),
    [
        ({"prompt": "a"}, {"prompt": "a"}),
        (
            {"override_settings": {"sd_model_checkpoint": "a.ckpt"}, "override_settings_restore_afterwards": False},
            {"override_settings": {"sd_model_checkpoint": "a.ckpt"}, "override_settings_restore_afterwards": True},
        ),
        ({"override_settings": {}}, {"override_settings": {}, "override_settings_restore_afterwards": True}),
        ({"override_settings_restore_afterwards": False}, {"override_settings_restore_afterwards": True}),
        ({"save_images": True}, {"save_images": False}),
    ],
)
def test_a_job_leaves_the_web_ui_as_it_was(content: dict[str, Any], safe: dict[str, Any]) -> None:
    job = v1_job(content=content)
    assert job.for_engine(Engine.SDWEBUI).content == safe
    assert job.content == content


PICTURE: dict[str, Any] = {"init_images": ["aGk="]}
NUMBERS = ("steps", "width", "height", "batch_size", "n_iter", "cfg_scale", "denoising_strength")
NAMES = ("override_settings", "override_settings_restore_afterwards", "save_images", "prompt")


@given(st.dictionaries(st.sampled_from(NAMES), st.none() | st.booleans() | st.just({})))
def test_what_is_safe_stays_as_it_is(content: dict[str, Any]) -> None:
    assert hardened(hardened(content)) == hardened(content)


@pytest.mark.parametrize(
    "name",
    [
        *("outdir_samples", "outdir_init_images", "directories_filename_pattern", "samples_filename_pattern"),
        *("grid_zip_filename_pattern", "temp_dir", "save_init_img", "save_images_before_highres_fix", "font"),
        *(
            "api_enable_requests",
            "api_forbid_local_requests",
            "control_net_detectedmap_dir",
            "restore_config_state_file",
        ),
        *("control_net_models_path", "profiling_filename"),
    ],
)
def test_files_and_folders_of_the_web_ui_are_no_job_s_to_set(name: str) -> None:
    job = v1_job(content={"override_settings": {"CLIP_stop_at_last_layers": 2, name: "/models"}})
    with pytest.raises(FieldError) as refusal:
        job.for_engine(Engine.SDWEBUI, field="task.content")
    assert refusal.value.field == f"task.content.override_settings.{name}"


@pytest.mark.parametrize(
    "name", ["sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers", "eta_noise_seed_delta", "samples_format"]
)
def test_how_a_picture_is_drawn_is_the_job_s_to_set(name: str) -> None:
    v1_job(content={"override_settings": {name: 1}}).for_engine(Engine.SDWEBUI)


@pytest.mark.parametrize(
    ("task", "content", "field", "right"),
    [
        (Task.TEXT_TO_IMAGE, {"steps": 0}, "steps", "a number, 1 or more"),
        (Task.TEXT_TO_IMAGE, {"steps": -1}, "steps", "a number, 1 or more"),
        (Task.TEXT_TO_IMAGE, {"steps": "many"}, "steps", "a number, 1 or more"),
        (Task.TEXT_TO_IMAGE, {"width": 0}, "width", "a number, 8 or more"),
        (Task.TEXT_TO_IMAGE, {"height": -512}, "height", "a number, 8 or more"),
        (Task.TEXT_TO_IMAGE, {"height": "inf"}, "height", "a number, 8 or more"),
        (Task.TEXT_TO_IMAGE, {"batch_size": 0}, "batch_size", "a number, 1 or more"),
        (Task.TEXT_TO_IMAGE, {"n_iter": [2]}, "n_iter", "a number, 1 or more"),
        (Task.TEXT_TO_IMAGE, {"cfg_scale": None}, "cfg_scale", "a number"),
        (Task.IMAGE_TO_IMAGE, {**PICTURE, "denoising_strength": -0.1}, "denoising_strength", "a number, 0 or more"),
        (Task.IMAGE_TO_IMAGE, {**PICTURE, "denoising_strength": None}, "denoising_strength", "a number, 0 or more"),
        (Task.IMAGE_TO_IMAGE, {}, "init_images", "no more than batch_size"),
        (Task.IMAGE_TO_IMAGE, {"init_images": []}, "init_images", "no more than batch_size"),
        (Task.IMAGE_TO_IMAGE, {"init_images": [None]}, "init_images", "a list of pictures"),
        (Task.IMAGE_TO_IMAGE, {"init_images": [""]}, "init_images", "a list of pictures"),
        (Task.IMAGE_TO_IMAGE, {"init_images": "aGk="}, "init_images", "no more than batch_size"),
        (
            Task.IMAGE_TO_IMAGE,
            {"init_images": ["aGk="] * 3, "batch_size": 2},
            "init_images",
            "no more than batch_size",
        ),
    ],
)
def test_what_no_web_ui_can_draw_is_refused_with_what_would_be_right(
    task: Task, content: dict[str, Any], field: str, right: str
) -> None:
    with pytest.raises(FieldError) as refusal:
        v1_job(task=task, content=content).for_engine(Engine.SDWEBUI)
    assert refusal.value.field == f"content.{field}"
    assert right in refusal.value.message


@pytest.mark.parametrize(
    ("task", "content"),
    [
        (Task.TEXT_TO_IMAGE, {}),
        (Task.TEXT_TO_IMAGE, {"steps": "20", "width": 512.0, "height": 8, "cfg_scale": 0, "n_iter": True}),
        (Task.TEXT_TO_IMAGE, {"width": 8192, "height": 8192, "batch_size": 100, "denoising_strength": None}),
        (Task.IMAGE_TO_IMAGE, {**PICTURE, "denoising_strength": 1.5, "batch_size": 4}),
        (Task.IMAGE_TO_IMAGE, {"init_images": ["aGk="] * 2, "batch_size": 2}),
        (Task.EXTRA_SINGLE_IMAGE, {"steps": 0}),
    ],
)
def test_what_a_web_ui_may_be_able_to_draw_is_left_to_it(task: Task, content: dict[str, Any]) -> None:
    assert v1_job(task=task, content=content).for_engine(Engine.SDWEBUI).content == content


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(st.sampled_from([Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE]), st.dictionaries(st.sampled_from(NUMBERS), JSON))
def test_whatever_stands_in_a_number_is_taken_or_refused(task: Task, content: dict[str, Any]) -> None:
    for field, reason in impossible(task, {**content, **PICTURE}):
        assert field in content
        assert reason
