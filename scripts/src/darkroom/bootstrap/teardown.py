"""What is in Kubernetes is taken down, in the order in which nothing in AWS is left to nobody.

Argo CD lets go first, since it would bring back what is taken away. Then goes what Crossplane and Karpenter have made
in AWS, as long as they are there to take it away. Every part can be repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass

from darkroom.bootstrap.credentials import ARGOCD, DARKROOM
from darkroom.bootstrap.gitops import APPLICATIONS, PLURALS, said_of
from darkroom.bootstrap.leftovers import instances
from darkroom.bootstrap.steps import Context, StepFailed
from darkroom.kubectl import Kubectl, Object
from darkroom_function.apis import GROUP

_APPLICATION_SET = "applicationsets.argoproj.io"
_RUNTIME = "runtime-"
#: Crossplane's mark of an object that a Usage protects.
_IN_USE = "crossplane.io/in-use"
_NODE_POOLS, _NODE_CLAIMS = "nodepools.karpenter.sh", "nodeclaims.karpenter.sh"


@dataclass(frozen=True)
class Removal:
    """A part of it, as ``steps.undo`` takes it."""

    title: str
    context: Context
    remove: Callable[[Context, Kubectl], None]

    def undo(self) -> None:
        """Take it away, as far as there is a cluster at all."""
        if k8s := self.context.kubernetes:
            self.remove(self.context, k8s)


def removals(context: Context) -> list[Removal]:
    """The parts, the last first, as the steps of a bootstrap are."""
    parts = {
        "What is left in the namespace": _remove_rest,
        "The identities of the add-ons and the nodes": _remove_identities,
        "The nodes that Karpenter started": _remove_nodes,
        "The API and its topics": _remove_api,
        "The runtimes, with their queues": _remove_runtimes,
        "Argo CD's hold on all of it": _release,
    }
    return [Removal(title, context, remove) for title, remove in parts.items()]


def _release(_context: Context, k8s: Kubectl) -> None:
    """Nothing is made anew, and nothing is set back: each Application keeps what it has made."""
    _delete(k8s, APPLICATIONS, [name for name in _names(k8s, APPLICATIONS, ARGOCD) if name == "root"], ARGOCD)
    _delete(k8s, _APPLICATION_SET, _names(k8s, _APPLICATION_SET, ARGOCD), ARGOCD)
    for item in k8s.all(APPLICATIONS, ARGOCD):
        if item["spec"].get("syncPolicy", {}).get("automated"):
            k8s.patch(APPLICATIONS, item["metadata"]["name"], ARGOCD, {"spec": {"syncPolicy": {"automated": None}}})


def _remove_runtimes(context: Context, k8s: Kubectl) -> None:
    """Each Application takes what it made with it, and is there until that has gone, from AWS too."""
    for item in k8s.all(APPLICATIONS, ARGOCD):
        name = item["metadata"]["name"]
        if not name.startswith(_RUNTIME) or "deletionTimestamp" in item["metadata"]:
            continue
        if item.get("status", {}).get("operationState", {}).get("phase") == "Running":
            # Until its sync ends it cannot be deleted; this is what Argo CD's own button does.
            k8s.patch(APPLICATIONS, name, ARGOCD, {"status": {"operationState": {"phase": "Terminating"}}})
        k8s.run("--namespace", ARGOCD, "delete", APPLICATIONS, name, "--wait=false", "--ignore-not-found")
    _wait_gone(
        context,
        k8s,
        APPLICATIONS,
        ARGOCD,
        lambda: [it for it in _names(k8s, APPLICATIONS, ARGOCD) if it.startswith(_RUNTIME)],
    )
    _remove_composites(context, k8s, "modelruntimes")


def _remove_api(context: Context, k8s: Kubectl) -> None:
    """The ``PromptApi``; and ``Storage``, whose buckets and file systems stay in AWS."""
    _remove_composites(context, k8s, PLURALS["PromptApi"])
    _remove_composites(context, k8s, PLURALS["Storage"])


def _remove_nodes(context: Context, k8s: Kubectl) -> None:
    """Karpenter ends its instances, and only then may it go: nobody else would."""
    for kind in (_NODE_POOLS, _NODE_CLAIMS):
        _end(k8s, kind)
    _wait_gone(context, k8s, _NODE_CLAIMS, None, lambda: _names(k8s, _NODE_CLAIMS))
    for kind in ("ec2nodeclasses.karpenter.k8s.aws", "kwoknodeclasses.karpenter.kwok.sh"):
        _end(k8s, kind)
    karpenters = (f"kubernetes.io/cluster/{context.cluster.eks_name}", "karpenter.sh/nodepool")
    if left := [item["InstanceId"] for item in instances(context, *karpenters)]:
        raise StepFailed(
            f"Karpenter knows these instances no more, and they run: {', '.join(left)}. End them: "
            f"aws ec2 terminate-instances --region {context.cluster.region} --instance-ids {' '.join(left)}"
        )


def _remove_identities(context: Context, k8s: Kubectl) -> None:
    _remove_composites(context, k8s, PLURALS["ClusterAccess"])


def _remove_rest(context: Context, k8s: Kubectl) -> None:
    """What was made beside the composites, and the claim of the models, whose volume stays what it is in AWS."""
    left = [it["metadata"]["name"] for it in k8s.all("managed", DARKROOM) if not it["metadata"].get("ownerReferences")]
    if left:
        raise StepFailed(f"These stand for something in AWS, and belong to nobody: {', '.join(left)}")
    # Those of composites that somebody else deleted, in the background.
    _wait_gone(context, k8s, "managed", DARKROOM, lambda: _names(k8s, "managed", DARKROOM))
    for kind in ("cronjobs.batch", "jobs.batch", "persistentvolumeclaims"):
        _end(k8s, kind, DARKROOM)
    _wait_gone(
        context, k8s, "persistentvolumeclaims", DARKROOM, lambda: _names(k8s, "persistentvolumeclaims", DARKROOM)
    )
    volumes = [it["metadata"]["name"] for it in k8s.all("persistentvolumes") if _is_ours(it)]
    if volumes:
        k8s.run("delete", "persistentvolumes", *volumes, "--ignore-not-found")


def _remove_composites(context: Context, k8s: Kubectl, plural: str) -> None:
    """Lift the protection of composites, delete them, and wait until all that they made has gone."""
    kind = f"{plural}.{GROUP}"
    for item in k8s.all(kind, DARKROOM):
        if item["spec"].get("protected"):
            k8s.patch(kind, item["metadata"]["name"], DARKROOM, {"spec": {"protected": False}})
    context.wait(f"The protection of {plural} is lifted", lambda: not any(map(_is_in_use, k8s.all(kind, DARKROOM))))
    # In the foreground: a composite is there until all that it made has gone.
    _end(k8s, kind, DARKROOM, "--cascade=foreground")
    _wait_gone(context, k8s, kind, DARKROOM, lambda: _names(k8s, kind, DARKROOM))


def _wait_gone(context: Context, k8s: Kubectl, kind: str, namespace: str | None, left: Callable[[], list[str]]) -> None:
    """Wait until nothing is left; raises ``StepFailed`` with what is, and what is said of it."""
    what = f"{kind.partition('.')[0].capitalize()} end"
    try:
        context.wait(what, lambda: not left())
    except StepFailed as error:
        there = [it for it in k8s.all(kind, namespace) if it["metadata"]["name"] in left()]
        stuck = [*there, *(it for it in k8s.all("managed", DARKROOM) if "deletionTimestamp" in it["metadata"])]
        said = (f"  {it['kind']} {it['metadata']['name']}: {said_of(it) or 'nothing is said of it'}" for it in stuck)
        raise StepFailed("\n".join([str(error), *said])) from error


def _delete(k8s: Kubectl, kind: str, names: list[str], namespace: str) -> None:
    """Delete objects, and nothing that they made."""
    if names:
        k8s.run("--namespace", namespace, "delete", kind, *names, "--cascade=orphan", "--ignore-not-found")


def _names(k8s: Kubectl, kind: str, namespace: str | None = None) -> list[str]:
    return [item["metadata"]["name"] for item in k8s.all(kind, namespace)]


def _end(k8s: Kubectl, kind: str, namespace: str | None = None, *options: str) -> None:
    """Ask for the deletion of all objects of a kind for which nobody has asked, and do not wait for it."""
    items = [it for it in k8s.all(kind, namespace) if "deletionTimestamp" not in it["metadata"]]
    if names := [it["metadata"]["name"] for it in items]:
        where = ("--namespace", namespace) if namespace else ()
        k8s.run("delete", kind, *names, *where, "--wait=false", "--ignore-not-found", *options)


def _is_in_use(item: Object) -> bool:
    return _IN_USE in item["metadata"].get("labels", {})


def _is_ours(volume: Object) -> bool:
    return (volume["spec"].get("claimRef") or {}).get("namespace") == DARKROOM
