"""What ComfyUI keeps on its disk for ever, deleted when no job needs it any more.

It touches the folders that the settings name, and in them only the files that a job's history says ComfyUI wrote for
it, and the inputs that an agent uploaded. No path leads out of a folder, and no symbolic link is followed.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from logging import getLogger
from pathlib import Path

from darkroom_agent.engines.comfyui_data import File
from darkroom_agent.media import media_type
from darkroom_agent.settings import Settings

log = getLogger(__name__)

_INPUT = re.compile(r"darkroom-[0-9a-f]{64}\.[a-z0-9]+")
#: How many times as long as a job may take an input is kept: it is brought, waits for the job before, and is used.
_KEPT_TIMEOUTS = 4


def input_name(picture: bytes) -> str:
    """The name that an input is uploaded under: the same picture is one file, and ComfyUI's caches help."""
    return f"darkroom-{hashlib.sha256(picture).hexdigest()}{media_type(picture).extension}"


class Leftovers:
    """Deletes what jobs leave in ComfyUI's folders; nothing where the settings do not name them."""

    def __init__(self, settings: Settings) -> None:
        outputs = settings.engine_output_folder
        #: Where ComfyUI keeps the files of a type: temporary ones as it does with ``--temp-directory`` set to outputs.
        self._folders = {"output": outputs, "temp": outputs / "temp"} if outputs else {}
        self._inputs = settings.engine_input_folder
        self._kept_seconds = _KEPT_TIMEOUTS * settings.job_timeout_seconds
        self._lock = threading.Lock()

    @property
    def are_deleted(self) -> bool:
        """Whether the files of earlier jobs are gone, and their names may be other jobs' by now."""
        return bool(self._folders)

    def delete(self, files: Iterable[File]) -> None:
        """Delete files that a job's history names. One that cannot be is logged: the job is none the worse."""
        for file in files:
            if folder := self._folders.get(str(file.get("type"))):
                _delete(folder, str(file.get("subfolder", "")), str(file["filename"]))

    def keep_input(self, name: str) -> None:
        """Keep an input that is there already for a job that is about to use it, and delete those that were long ago.

        By their age, because any number of jobs may use the same one.
        """
        if self._inputs is None:
            return
        with self._lock:
            with suppress(OSError):
                os.utime(self._inputs / name, follow_symlinks=False)
            try:
                with os.scandir(self._inputs) as entries:
                    old = [entry.name for entry in entries if self._is_old_input(entry)]
            except OSError as error:
                log.warning("the inputs' folder cannot be read", extra={"reason": error.strerror})
                return
            for other in old:
                _delete(self._inputs, "", other)

    def _is_old_input(self, entry: os.DirEntry[str]) -> bool:
        if not _INPUT.fullmatch(entry.name):
            return False
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > self._kept_seconds


def _delete(folder: Path, subfolder: str, name: str) -> None:
    parts = Path(subfolder).parts
    if name != Path(name).name or Path(subfolder).is_absolute() or ".." in (*parts, name) or "\0" in subfolder + name:
        log.warning("a file outside its folder is not deleted")
        return
    try:
        with ExitStack() as opened:
            inner = None
            for part in (str(folder), *parts):
                flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if inner is not None else 0)
                inner = os.open(part, flags, dir_fd=inner)
                opened.callback(os.close, inner)
            os.unlink(name, dir_fd=inner)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("file not deleted", extra={"reason": error.strerror})
