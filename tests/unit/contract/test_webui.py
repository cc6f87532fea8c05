"""A web UI that many use: what no job may change of it for the others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_contract.job import FieldError
from darkroom_contract.types import Engine
from darkroom_contract.webui import hardened
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
