"""Other people's programs: eksctl, helm, kubectl, aws, git, gh, cosign. The one place that starts any.

They are found on the PATH. Secrets are handed to them by their standard input or their environment, never as arguments,
which everyone on the computer can see and which are said when a program fails.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping

from darkroom.trouble import Trouble

#: How much of what a program said is repeated when it fails, in lines.
_LAST_LINES = 15


class ProgramMissing(Trouble):
    """A program is not installed."""


class ProgramFailed(Trouble):
    """A program ended with another status than 0; the message has its command line and the end of what it said."""


def find(program: str) -> str:
    """Where a program is; raises ``ProgramMissing``."""
    path = shutil.which(program)
    if path is None:
        raise ProgramMissing(f"{program} is not installed, or not on the PATH")
    return path


def run(*command: str, text: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it wrote to its standard output.

    ``text`` is its standard input, ``env`` is added to its environment.
    Raises ``ProgramMissing`` and ``ProgramFailed``.
    """
    done = subprocess.run(  # noqa: S603 - its name is ours, and no shell reads its arguments
        [find(command[0]), *command[1:]],
        input=text if text is not None else "",
        env={**os.environ, **(env or {})},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ProgramFailed(_failure(command, done.returncode, done.stderr or done.stdout))
    return done.stdout


def show(*command: str, env: Mapping[str, str] | None = None) -> None:
    """Run a program to its end with its output on the terminal: what takes minutes shows how far it is.

    Raises ``ProgramMissing`` and ``ProgramFailed``.
    """
    done = subprocess.run(  # noqa: S603 - as above
        [find(command[0]), *command[1:]], stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, check=False
    )
    if done.returncode:
        raise ProgramFailed(_failure(command, done.returncode, "see above"))


def _failure(command: tuple[str, ...], status: int, said: str) -> str:
    last = "\n".join(f"  {line}" for line in said.strip().splitlines()[-_LAST_LINES:])
    return f"{shlex.join(command)}\nended with status {status}:\n{last}"
