"""The network of the pods: a bridge, and for each pod a sandbox with an address on it. It needs root.

The bridge is in a network namespace of its own, which lives as long as the process that holds it; the machine has one
end of a cable to it. When that process ends, however that comes about, the kernel takes all of it away. Nothing leads
out of it: pods reach each other, and what listens on the machine's address.
"""

import ipaddress
import itertools
import os
import subprocess
import threading
from typing import Self

from tests.e2e.kubelet.errors import StandInFailed
from tests.e2e.kubelet.image import PROGRAMS

#: Whoever is killed ends what it started.
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

_TOOLS = ("ip", "mount", "nsenter", "pivot_root", "setpriv", "umount", "unshare")
_NETWORKS = [ipaddress.IPv4Network(f"10.{number}.0.0/16") for number in range(232, 248)]
#: The names that it needs; the environment of containers is their own affair.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class Holder:
    """A process that does nothing but hold namespaces."""

    def __init__(self, *setup: str) -> None:
        script = "\n".join(("set -e", *setup, "echo ready", "exec sleep infinity"))
        self._process = subprocess.Popen(
            [*DIES_WITH_PARENT, "unshare", "--net", "--uts", "--ipc", "sh", "-c", script],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout
        assert self._process.stderr
        if self._process.stdout.readline() != b"ready\n":
            raise StandInFailed(f"namespaces cannot be made: {self._process.stderr.read().decode().strip()}")

    @property
    def pid(self) -> int:
        """Whose namespaces they are."""
        return self._process.pid

    def enter(self, *namespaces: str) -> list[str]:
        """The command before a command that is to run in its namespaces."""
        return ["nsenter", *(f"--{name}=/proc/{self.pid}/ns/{name}" for name in namespaces)]

    def stop(self) -> None:
        """End it: its network goes."""
        self._process.kill()
        self._process.communicate()


class Network:
    """A network for pods, inside a ``with`` statement; it ends with the thread that entered it, too."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._holder = Holder("ip link add pods type bridge", "ip link set pods up")
        try:
            self._network = self._connect()
        except BaseException:
            self._holder.stop()
            raise
        #: The machine's address on it.
        self.host_address = str(self._network[1])
        return self

    def __exit__(self, *_error: object) -> None:
        self._holder.stop()

    def _connect(self) -> ipaddress.IPv4Network:
        """Lay the cable to the machine; the first network whose cable nobody has laid."""
        for network in _NETWORKS:
            name = f"darkroom{network.network_address.packed[1]}"
            made = _run("ip", "link", "add", name, "type", "veth", "peer", "name", "host", "netns", self._holder.pid)
            if made.returncode == 0:
                _check("ip", "addr", "add", f"{network[1]}/{network.prefixlen}", "dev", name)
                _check("ip", "link", "set", name, "up")
                _check(*self._holder.enter("net"), "ip", "link", "set", "host", "master", "pods", "up")
                return network
            if b"File exists" not in made.stderr:
                raise StandInFailed(f"there can be no network for pods: {made.stderr.decode().strip()}")
        raise StandInFailed("all networks for pods are taken")

    def connect(self, pod: Holder) -> str:
        """Give a pod's sandbox an address, and return it."""
        with self._lock:
            number = next(self._numbers)
        address = str(self._network[256 + number])  # the first 256 are the machine's
        cable = f"pod{number}"
        _check(
            *(*self._holder.enter("net"), "ip", "link", "add", cable, "master", "pods", "up"),
            *("type", "veth", "peer", "name", "eth0", "netns", pod.pid),
        )
        _batch(pod, f"addr add {address}/{self._network.prefixlen} dev eth0", "link set eth0 up")
        return address


def sandbox(hostname: str) -> Holder:
    """The namespaces that the containers of a pod share."""
    return Holder("ip link set lo up", f"echo {hostname} > /proc/sys/kernel/hostname")


def _batch(holder: Holder, *commands: str) -> None:
    _check(*holder.enter("net"), "sh", "-ec", "\n".join(f"ip {command}" for command in commands))


def _check(*command: str | int) -> None:
    done = _run(*command)
    if done.returncode:
        raise StandInFailed(f"{' '.join(map(str, command))}: {done.stderr.decode().strip()}")


def _run(*command: str | int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(part) for part in command], env=ENVIRONMENT, capture_output=True, check=False)


def missing() -> str | None:
    """Why pods cannot be played, or None."""
    if os.geteuid():
        return "pods are played in namespaces, which only root can make"
    folders = ENVIRONMENT["PATH"].split(":")
    if absent := [tool for tool in _TOOLS if not any(os.access(f"{folder}/{tool}", os.X_OK) for folder in folders)]:
        return f"pods are played by tools that are not there: {', '.join(absent)}"
    # The folders above them are opened inside of containers (isolation).
    if closed := [str(folder) for folder in PROGRAMS if folder.stat().st_mode & 0o005 != 0o005]:
        return f"containers have users of their own, which may not read {', '.join(closed)}"
    trial = (
        "set -e; mount -t tmpfs trial /mnt; cd /mnt; mkdir upper work root; "
        "mount -t overlay trial -o lowerdir=/,upperdir=upper,workdir=work root; "
        "ip link add trial type bridge; ip link add trial0 type veth peer name trial1"
    )
    done = _run("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", trial)
    return f"pods cannot be played: {done.stderr.decode().strip()}" if done.returncode else None
