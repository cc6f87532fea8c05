"""What Kubernetes has of a runtime before its pods: the push, the composite, KEDA's ScaledObject, the Deployment."""

from __future__ import annotations

import json

from darkroom.doctor.context import NAMESPACE, Context
from darkroom.doctor.finding import Finding, absent, ok, wrong
from darkroom.doctor.objects import condition

_KEDA = "keda"
_KEDA_OPERATOR = "app.kubernetes.io/name=keda-operator"
#: What EKS Pod Identity, and IRSA, put into a pod that they give an identity.
_IDENTITY = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_WEB_IDENTITY_TOKEN_FILE")
_PAUSED = ("autoscaling.keda.sh/paused", "autoscaling.keda.sh/paused-replicas")


def push(it: Context) -> Finding:
    """Whether the runtime's folder, as it was pushed, could be rendered and applied."""
    if it.files.cluster.gitops is None:
        return absent("this cluster is not kept by Argo CD")
    name = f"runtime-{it.runtime}"
    found = it.kubectl.get("applications.argoproj.io", name, "argocd")
    if found is None:
        words = f"Argo CD has no Application {name}: {it.folder}/runtimes/{it.runtime} is not on its branch"
        command = "kubectl -n argocd describe applicationset runtimes"
        return wrong(f"{words}, or the branch cannot be read", f"darkroom validate {it.folder}", "git push", command)
    for each in found.get("status", {}).get("conditions", []):
        if each["type"].endswith("Error"):
            return wrong(
                f"what was pushed cannot be applied: {_end(each['message'])}", f"darkroom validate {it.folder}"
            )
    operation = found.get("status", {}).get("operationState", {})
    if operation.get("phase") in ("Failed", "Error"):
        words = f"the last sync failed: {_end(operation.get('message', ''))}"
        return wrong(words, f"kubectl -n argocd describe application {name}")
    return ok(f"Application {name} is {found.get('status', {}).get('sync', {}).get('status', 'not synced yet')}")


def composite(it: Context) -> Finding:
    """The composite of what the runtime has in AWS."""
    found = it.kubectl.get("modelruntimes.darkroom.dev", it.runtime, NAMESPACE)
    describe = f"kubectl -n {NAMESPACE} describe modelruntime {it.runtime}"
    if found is None:
        return wrong(
            f"there is no ModelRuntime {it.runtime}", f"kubectl -n argocd describe application runtime-{it.runtime}"
        )
    for name in ("Synced", "Ready"):
        each = condition(found, name)
        if each and each["status"] == "False":
            return wrong(f"{name} is false: {_end(each.get('message') or each.get('reason', ''))}", describe)
    return ok("what it asks of AWS is there")


def scaler(it: Context) -> Finding:
    """KEDA's ScaledObject, and whether KEDA may look at the queue."""
    found = it.kubectl.get("scaledobjects.keda.sh", it.runtime, NAMESPACE)
    describe = f"kubectl -n {NAMESPACE} describe scaledobject {it.runtime}"
    if found is None:
        return wrong(
            f"there is no ScaledObject {it.runtime}", f"kubectl -n argocd describe application runtime-{it.runtime}"
        )
    annotations = found["metadata"].get("annotations", {})
    if paused := [name for name in _PAUSED if annotations.get(name, "false") != "false"]:
        command = f"kubectl -n {NAMESPACE} annotate scaledobject {it.runtime} {paused[0]}-"
        return wrong("it is paused: no pods come for the messages that wait", command)
    ready = condition(found, "Ready")
    if ready is None or ready["status"] != "True":
        said = (ready or {}).get("message") or "KEDA has not looked at it"
        if operator := _without_identity(it):
            command = f"kubectl -n {_KEDA} rollout restart deployment keda-operator"
            words = f"the pod {operator} of KEDA has no identity in AWS, since it was made before ClusterAccess: {said}"
            return wrong(words, command)
        events = next(iter(it.said_of("ScaledObject", it.runtime, "KEDAScalerFailed", "ScaledObjectCheckFailed")), "")
        command = f"kubectl -n {_KEDA} logs deployment/keda-operator --since=10m"
        return wrong(f"it is not ready: {_end(events or said)}", describe, command)
    active = condition(found, "Active") or {}
    return ok(f"ready, {'messages are there' if active.get('status') == 'True' else 'no message is there'}")


def deployment(it: Context) -> Finding:
    """The Deployment and its autoscaler: whether the pods that are wanted can be made."""
    found = it.kubectl.get("deployments.apps", it.runtime, NAMESPACE)
    if found is None:
        return wrong(
            f"there is no Deployment {it.runtime}", f"kubectl -n argocd describe application runtime-{it.runtime}"
        )
    failure = condition(found, "ReplicaFailure")
    if failure and failure["status"] == "True":
        command = f"kubectl get podidentityassociations.eks.aws.m.upbound.io -n {NAMESPACE}"
        return wrong(f"its pods are refused: {_end(failure['message'])}", command)
    autoscaler = it.kubectl.get("horizontalpodautoscalers.autoscaling", f"keda-hpa-{it.runtime}", NAMESPACE) or {}
    for name in ("AbleToScale", "ScalingActive"):
        each = condition(autoscaler, name)
        if each and each["status"] == "False" and each.get("reason") != "ScalingDisabled":  # as it is at zero pods
            command = f"kubectl -n {NAMESPACE} describe hpa keda-hpa-{it.runtime}"
            return wrong(f"its autoscaler cannot scale: {_end(each.get('message', ''))}", command)
    most = condition(autoscaler, "ScalingLimited") or {}
    at_most = ", as many as maxPods allows" if most.get("reason") == "TooManyReplicas" else ""
    wanted, ready = found["spec"].get("replicas", 0), found.get("status", {}).get("readyReplicas", 0)
    return ok(f"{ready} of {wanted} pods ready{at_most}")


def _without_identity(it: Context) -> str | None:
    """A pod of KEDA's operator that EKS gave no identity; none beside an emulator, which asks for none."""
    if it.files.cluster.emulator:
        return None
    for pod in it.kubectl.all("pods", _KEDA, _KEDA_OPERATOR):
        if not any(name in json.dumps(pod["spec"]["containers"]) for name in _IDENTITY):
            return str(pod["metadata"]["name"])
    return None


def _end(message: str) -> str:
    """The end of a long message, which is what counts in Argo CD's, Crossplane's and KEDA's."""
    words = " ".join(message.split())
    return words if len(words) <= 400 else f"… {words[-400:]}"
