"""What a job may not do to a web UI that others use too. Pure.

Source of the names: the web UI's modules/shared_options.py (its ``restricted_opts`` among them) and the ControlNet
extension's settings. A setting that a job overrides holds for all jobs of the pod unless it is restored afterwards.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from pydantic import JsonValue

#: Settings that name files and folders of the pod, write to its disk, or say what the pod itself may fetch.
_RUNTIME_SETTINGS = (
    "outdir_*",
    "directories_*",
    "save_*",
    "api_*",
    "*_dir",
    "*_path",
    "*_filename",
    "*_filename_pattern",
    "*_state_file",
    "font",
)


def runtime_settings(content: dict[str, JsonValue]) -> Iterator[str]:
    """The settings in ``override_settings`` that are not a job's to make."""
    settings = content.get("override_settings")
    for name in settings if isinstance(settings, dict) else ():
        if any(fnmatchcase(name, pattern) for pattern in _RUNTIME_SETTINGS):
            yield name


def hardened(content: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The body with its settings restored afterwards, and nothing saved on the pod's disk. Idempotent."""
    safe: dict[str, JsonValue] = {}
    if "override_settings" in content or "override_settings_restore_afterwards" in content:
        safe["override_settings_restore_afterwards"] = True
    if "save_images" in content:
        safe["save_images"] = False
    return {**content, **safe}
