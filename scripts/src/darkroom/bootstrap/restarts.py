"""Pods that are older than their identity: AWS gives one to a pod when the pod is made, and never later."""

from dataclasses import dataclass

from darkroom.bootstrap.credentials import DARKROOM
from darkroom.bootstrap.gitops import is_ready, wait_for_platform
from darkroom.bootstrap.steps import Context, StepFailed
from darkroom.kubectl import Kubectl, Object
from darkroom_function.apis import GROUP

#: What EKS' webhook, or that of IAM roles for service accounts, gives to a pod's containers.
_IDENTITY = {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE"}
#: How long a rollout may take.
_TIMEOUT = "10m"


@dataclass(frozen=True)
class _Workload:
    """What has an identity by ``ClusterAccess``, and may be there before it."""

    namespace: str
    kind: str
    name: str
    selector: str


_WORKLOADS = (
    _Workload("keda", "deployment", "keda-operator", "app=keda-operator"),
    _Workload("kube-system", "deployment", "karpenter", "app.kubernetes.io/name=karpenter"),
    _Workload("kube-system", "daemonset", "s3-csi-node", "app=s3-csi-node"),
)


@dataclass(frozen=True)
class Identities:
    """``ClusterAccess`` has made the identities of KEDA, Karpenter and Mountpoint, and their pods have them."""

    context: Context
    title = "The identities of KEDA, Karpenter and Mountpoint"

    def is_done(self) -> bool:
        """Whether they are there, and no pod is without its own."""
        k8s = self.context.kubernetes
        return k8s is not None and _has_identities(k8s) and not self._without(k8s)

    def do(self) -> None:
        """Wait for the identities, and start anew what was there before: each such workload once."""
        k8s = self.context.k8s
        wait_for_platform(self.context, "Crossplane makes the identities in AWS", lambda: _has_identities(k8s))
        for workload in self._without(k8s):
            self.context.say(f"{workload.name} is older than its identity, and starts anew")
            where = ("--namespace", workload.namespace)
            k8s.run("rollout", "restart", f"{workload.kind}/{workload.name}", *where)
            k8s.run("rollout", "status", f"{workload.kind}/{workload.name}", *where, "--timeout", _TIMEOUT)
        if left := self._without(k8s):
            raise StepFailed(
                f"EKS gives {', '.join(it.name for it in left)} no identity, although the Pod Identity associations "
                "are there: see that the add-on eks-pod-identity-agent runs (kubectl -n kube-system get daemonsets)"
            )

    def undo(self) -> None:
        """They go with ``ClusterAccess``."""

    def _without(self, k8s: Kubectl) -> list[_Workload]:
        """Those that have a pod without an identity; none beside an emulator, which asks for none."""
        if self.context.cluster.emulator:
            return []
        return [it for it in _WORKLOADS if any(map(_lacks, k8s.all("pods", it.namespace, it.selector)))]


def _has_identities(k8s: Kubectl) -> bool:
    found = k8s.all(f"clusteraccesses.{GROUP}", DARKROOM)
    return bool(found) and all(map(is_ready, found))


def _lacks(pod: Object) -> bool:
    """Whether none of a pod's containers has an identity; a pod that ends does not count."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    variables = {item["name"] for container in pod["spec"]["containers"] for item in container.get("env", ())}
    return not variables & _IDENTITY
