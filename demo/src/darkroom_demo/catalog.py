"""What the demo runtime claims to have installed.

The names of checkpoints are those of well-known files; the weights are the demo's own, whichever is named.
"""

from dataclasses import dataclass

from darkroom_demo.diffusion.samplers import SAMPLERS
from darkroom_demo.diffusion.schedules import SCHEDULES

CHECKPOINTS = (
    "v1-5-pruned-emaonly.safetensors",
    "v2-1_768-ema-pruned.safetensors",
    "sd_xl_base_1.0.safetensors",
    "sd_xl_turbo_1.0_fp16.safetensors",
    "flux1-schnell-fp8.safetensors",
)
LORAS = ("add_detail.safetensors", "sd_xl_offset_example-lora_1.0.safetensors")


@dataclass(frozen=True)
class WebUISampler:
    """A sampler as the web UI lists it: what else it is called, which one it is, its schedule if none is named."""

    aliases: tuple[str, ...]
    sampler: str
    schedule: str = "normal"


# modules/sd_samplers_kdiffusion.py and sd_samplers_timesteps.py
WEBUI_SAMPLERS = {
    "DPM++ 2M": WebUISampler(("k_dpmpp_2m",), "dpmpp_2m", "karras"),
    "DPM++ 2M SDE": WebUISampler(("k_dpmpp_2m_sde",), "dpmpp_2m_sde", "exponential"),
    "Euler a": WebUISampler(("k_euler_a", "k_euler_ancestral"), "euler_ancestral"),
    "Euler": WebUISampler(("k_euler",), "euler"),
    "Heun": WebUISampler(("k_heun",), "heun"),
    "DPM2": WebUISampler(("k_dpm_2",), "dpm_2", "karras"),
    "DPM2 a": WebUISampler(("k_dpm_2_a",), "dpm_2_ancestral", "karras"),
    "DDIM": WebUISampler(("ddim",), "ddim", "ddim_uniform"),
    "LCM": WebUISampler(("k_lcm",), "lcm"),
}
WEBUI_SCHEDULERS = {
    "automatic": "Automatic",
    "uniform": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "kl_optimal": "KL Optimal",
    "simple": "Simple",
    "normal": "Normal",
    "ddim": "DDIM",
}
WEBUI_UPSCALERS = ("None", "Lanczos", "Nearest")
WEBUI_LATENT_UPSCALERS = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)


COMFYUI_SAMPLERS = tuple(SAMPLERS)
COMFYUI_SCHEDULERS = tuple(SCHEDULES)


def webui_schedule(sampler: str, scheduler: str) -> str:
    """Return the schedule that the web UI's names of a sampler and a scheduler mean, by ComfyUI's name."""
    named = {"Automatic": WEBUI_SAMPLERS[sampler].schedule, "Uniform": "normal", "DDIM": "ddim_uniform"}
    keys = {label: key for key, label in WEBUI_SCHEDULERS.items()}
    return named.get(scheduler) or keys[scheduler]
