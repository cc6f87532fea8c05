"""What a container is isolated by: the command that runs its program in namespaces of its own. It runs nothing itself.

A container has its pod's network and hostname, and process ids of its own: its program is process 1, to which a signal
that it does not handle does nothing. Its root is the machine's, seen through an overlay whose changes go with it, with
an empty /tmp and with the volumes at their mount paths. Its program has no privileges and cannot get any.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.kubelet.image import PROGRAMS
from tests.e2e.kubelet.program import Program
from tests.e2e.kubelet.sandbox import DIES_WITH_PARENT, Holder


@dataclass(frozen=True)
class Mount:
    """A file or folder of the machine at a path of the container."""

    source: Path
    target: str
    read_only: bool


_PROGRAMS = tuple(Mount(program, str(program), read_only=True) for program in PROGRAMS)


def start(program: Program, pod: Holder, root: Path, mounts: Sequence[Mount], *, read_only: bool) -> list[str]:
    """The command that starts a container.

    ``root`` is an empty folder of the machine. Once everything is in place, and right before the program begins, a line
    is written to its standard input. The container's process 1 is its only child.
    """
    script = "\n".join(
        (
            "set -e",
            *_root(root),
            *(_place(mount) for mount in (*_PROGRAMS, *mounts)),
            # Of the mount alone: what is mounted may be a file system of the machine.
            *(f"mount -o remount,bind,ro {place}" for place in ("tmp", ".") if read_only),
            # The programs last: they may lie in what a volume hides, /tmp say.
            *(line for mount in (*mounts, *_PROGRAMS) for line in _mount(mount)),
            "pivot_root . .",
            "umount -l .",
            shlex.join(["cd", program.working_directory]),
            "echo >&0",
            f"exec </dev/null {shlex.join(_become(program, program.command))}",
        )
    )
    # Its first child is process 1 of the new namespace; unshare's own --fork does not tell a SIGKILL from a failure.
    holder = f"exec 3>&2 2>/dev/null; {shlex.join([*DIES_WITH_PARENT, 'sh', '-c', script])} 2>&3 3>&-; exit $?"
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "sh", "-c", holder]
    return [*DIES_WITH_PARENT, *pod.enter("net", "uts", "ipc"), *unshare]


def beside(program: Program, pid: int, command: Sequence[str]) -> list[str]:
    """The command that runs another one in the container of the process ``pid``, as its program is run."""
    enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
    return [*DIES_WITH_PARENT, *enter, *_become(program, command)]


def _become(program: Program, command: Sequence[str]) -> list[str]:
    """The command that gives up what root may do, and becomes that of the program or another one beside it."""
    groups = [f"--groups={','.join(map(str, program.groups))}"] if program.groups else ["--clear-groups"]
    identity = [f"--reuid={program.user}", f"--regid={program.group}", *groups]
    privileges = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    variables = [f"{name}={value}" for name, value in program.environment.items()]
    return [*DIES_WITH_PARENT, *identity, *privileges, "env", "-i", *variables, *command]


def _root(folder: Path) -> list[str]:
    place = shlex.quote(str(folder))
    above = dict.fromkeys(parent for program in PROGRAMS for parent in reversed(program.parents))
    closed = [parent for parent in above if not parent.stat().st_mode & 0o001 and not _is_hidden(parent)]
    return [
        f"mount -t tmpfs -o mode=755 root {place}",
        f"cd {place}",
        "mkdir upper work root",
        "mount -t overlay root -o lowerdir=/,upperdir=upper,workdir=work root",
        "cd root",
        "mount -t proc proc proc",
        "mount --rbind /dev dev",
        "mount --rbind /sys sys",
        "mount -t tmpfs -o mode=1777 tmp tmp",
        *(f"chmod o+x {shlex.quote(f'.{parent}')}" for parent in closed),
    ]


def _place(mount: Mount) -> str:
    """Make the place where something is mounted, in the current folder."""
    target = _target(mount)
    make = f"mkdir -p {target}" if mount.source.is_dir() else f"mkdir -p $(dirname {target}); touch {target}"
    return f"[ -e {target} ] || {{ {make}; }}"


def _mount(mount: Mount) -> list[str]:
    target = _target(mount)
    lock = [f"mount -o remount,bind,ro {target}"] if mount.read_only else []
    return [_place(mount), f"mount --bind {shlex.quote(str(mount.source))} {target}", *lock]


def _target(mount: Mount) -> str:
    return shlex.quote(f".{os.path.normpath(mount.target)}")


def _is_hidden(folder: Path) -> bool:
    """Whether the container has another folder in the place of it."""
    return folder.is_relative_to("/tmp") or any(folder.is_relative_to(program) for program in PROGRAMS)
