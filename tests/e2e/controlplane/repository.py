"""The Git repository that the tests' Argo CD reads: a real one on disk, which a Git daemon serves."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from darkroom.local.kubelet import free_port
from tests.e2e.controlplane.processes import Processes, listens

_PROJECT = Path(__file__).parents[3]
#: Neither the user's settings nor the system's.
_ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Darkroom's tests",
    "GIT_AUTHOR_EMAIL": "tests@darkroom.invalid",
    "GIT_COMMITTER_NAME": "Darkroom's tests",
    "GIT_COMMITTER_EMAIL": "tests@darkroom.invalid",
}


class Repository:
    """A repository with one branch, ``main``; what is committed is there for whoever pulls."""

    def __init__(self, processes: Processes) -> None:
        #: Its files, as of the latest commit.
        self.folder = processes.folder / "git" / "darkroom"
        self.folder.mkdir(parents=True)
        port = free_port()
        #: Where it is cloned from.
        self.url = f"git://127.0.0.1:{port}/darkroom"
        self._git("init", "--quiet", "--initial-branch=main")
        self.commit("Start", {})
        daemon = processes.run(
            "git-daemon",
            *("git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--export-all"),
            f"--base-path={self.folder.parent}",
        )
        daemon.wait_until(listens("127.0.0.1", port))

    def commit(self, message: str, files: Mapping[str, str | None]) -> str:
        """Write files by their paths, or delete those that are None, and commit that; the commit's hash."""
        for name, text in files.items():
            path = self.folder / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        return _git(self.folder, *arguments)


def project_files(*folders: str) -> dict[str, str]:
    """The project's own files in these folders, to be committed; what Git ignores is left out."""
    listed = _git(_PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders)
    paths = (name for name in listed.split("\0") if name)
    return {name: (_PROJECT / name).read_text() for name in paths if (_PROJECT / name).exists()}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ("git", "-C", folder, *arguments), env=_ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
