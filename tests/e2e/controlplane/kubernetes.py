"""A real Kubernetes control plane as plain processes: etcd, API server, controller manager, scheduler, and kwok.

kwok plays the kubelets of all nodes: pods that are scheduled to them are Running at once, and nothing runs in them. It
leaves the runtimes' pods alone. Everything listens on loopback, on ports that were free, and keeps its files in one
folder.
"""

from pathlib import Path
from typing import Self

from darkroom.local.kubelet import free_port
from tests.e2e.controlplane.binaries import component
from tests.e2e.controlplane.certificates import Authority, Certificate, kubeconfig, signing_key
from tests.e2e.controlplane.processes import Process, Processes, answers

_LOOPBACK = "127.0.0.1"
#: The pods that kwok does not play.
RUNTIMES = "app.kubernetes.io/name=sd-runtime"


class Kubernetes:
    """A control plane of its own; it runs inside a ``with`` statement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: How an administrator reaches it.
        self.kubeconfig = folder / "admin.kubeconfig"
        self.processes = Processes(folder)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.processes.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.processes.stop()

    def _start(self) -> None:
        authority = Authority(self.folder / "certificates")
        server = authority.issue("apiserver", _LOOPBACK, "localhost", "kubernetes.default.svc")
        admin = authority.issue("admin", common_name="admin", organization="system:masters")
        front = Authority(self.folder / "certificates").issue("front-proxy", common_name="front-proxy")
        signing_key(self.folder / "service-accounts.key")
        port = free_port()
        kubeconfig(self.kubeconfig, f"https://{_LOOPBACK}:{port}", admin)
        api_server = self._start_api_server(port, server, front, self._start_etcd())
        api_server.wait_until(answers(f"https://{_LOOPBACK}:{port}/readyz", admin))
        self._start_controller_manager(admin)
        self._start_scheduler()
        self._start_kwok()

    def _start_etcd(self) -> str:
        client, peer = (f"http://{_LOOPBACK}:{free_port()}" for _ in range(2))
        self.processes.run(
            "etcd",
            component("etcd") / "bin" / "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        return client

    def _start_api_server(self, port: int, server: Certificate, front: Certificate, etcd: str) -> Process:
        key = self.folder / "service-accounts.key"
        return self.processes.run(
            "kube-apiserver",
            component("kubernetes") / "bin" / "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={_LOOPBACK}",
            f"--advertise-address={_LOOPBACK}",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--client-ca-file={server.authority}",
            f"--cert-dir={self.folder}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            # By these it tells aggregated API servers who asks.
            f"--proxy-client-cert-file={front.certificate}",
            f"--proxy-client-key-file={front.key}",
            f"--requestheader-client-ca-file={front.authority}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        )

    def _start_controller_manager(self, admin: Certificate) -> None:
        self._start_controller(
            "kube-controller-manager",
            f"--service-account-private-key-file={self.folder / 'service-accounts.key'}",
            f"--root-ca-file={admin.authority}",
            "--use-service-account-credentials=true",
        )

    def _start_scheduler(self) -> None:
        self._start_controller("kube-scheduler")

    def _start_controller(self, name: str, *arguments: str) -> None:
        port = free_port()
        process = self.processes.run(
            name,
            component("kubernetes") / "bin" / name,
            f"--kubeconfig={self.kubeconfig}",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            f"--bind-address={_LOOPBACK}",
            f"--secure-port={port}",
            f"--cert-dir={self.folder}",
            *arguments,
        )
        process.wait_until(answers(f"https://{_LOOPBACK}:{port}/healthz"))

    def _start_kwok(self) -> None:
        self.processes.run(
            "kwok",
            component("kwok") / "bin" / "kwok",
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=true",
            f"--disregard-status-with-label-selector={RUNTIMES}",
            "--cidr=10.244.0.0/16",
            f"--node-ip={_LOOPBACK}",
            "--node-lease-duration-seconds=40",
            f"--server-address={_LOOPBACK}:{free_port()}",
        )
