"""Argo CD and what it keeps: its chart, the root Application, and waiting until the cluster is as Git says."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from darkroom import programs
from darkroom.bootstrap.credentials import ARGOCD, DARKROOM
from darkroom.bootstrap.steps import Context, StepFailed
from darkroom.kubectl import Kubectl, Object
from darkroom_function.apis import GROUP

APPLICATIONS = "applications.argoproj.io"
#: The composites that are there once in a cluster, as their kinds are called in the plural.
PLURALS = {"Storage": "storages", "PromptApi": "promptapis", "ClusterAccess": "clusteraccesses"}
_RELEASE = "argocd"
#: How long helm waits for Argo CD's pods.
_TIMEOUT = "15m"


@dataclass(frozen=True)
class ArgoCd:
    """Argo CD by its chart. Once ``root`` is there it keeps itself, by the same version and values."""

    context: Context
    title = "Argo CD"

    def is_done(self) -> bool:
        """Whether it is installed, or keeps itself already."""
        k8s = self.context.kubernetes
        return k8s is not None and (_has_root(k8s) or self._release(k8s) == "deployed")

    def do(self) -> None:
        """Install it, anew where that was begun and broken off."""
        k8s = self.context.k8s
        if self._release(k8s):  # begun, and not brought to its end: helm refuses to go on with it
            self._helm(k8s, "uninstall", _RELEASE, "--namespace", ARGOCD, "--wait")
        source = _rendered_argo_cd(self.context)["spec"]["source"]
        self._helm(
            k8s,
            *("install", _RELEASE, source["chart"], "--repo", source["repoURL"], "--version", source["targetRevision"]),
            *("--namespace", ARGOCD, "--create-namespace"),
            *("--values", str(self.context.root / "apps" / "root" / "values" / "argo-cd.yaml")),
            *("--wait", "--timeout", _TIMEOUT),
        )

    def undo(self) -> None:
        """Uninstall it. Its kinds stay, and go with the EKS cluster."""
        k8s = self.context.kubernetes
        if k8s is not None and self._release(k8s):
            self._helm(k8s, "uninstall", _RELEASE, "--namespace", ARGOCD, "--wait")

    def _release(self, k8s: Kubectl) -> str | None:
        """How helm says that its release is."""
        found = json.loads(self._helm(k8s, "list", "--namespace", ARGOCD, "--all", "--output", "json") or "[]")
        return next((item["status"] for item in found if item["name"] == _RELEASE), None)

    def _helm(self, k8s: Kubectl, *arguments: str) -> str:
        return programs.run("helm", *arguments, "--kubeconfig", str(k8s.kubeconfig))


@dataclass(frozen=True)
class Root:
    """The Application that makes all others, and what it needs to begin."""

    context: Context
    title = "The root Application"

    def is_done(self) -> bool:
        """Whether all that makes the others is there, and follows the repository that cluster.yaml names."""
        k8s = self.context.kubernetes
        if k8s is None or not _has_root(k8s):
            return False
        wanted = list(yaml.safe_load_all(self._rendered()))
        there = {_place(item): item for kind in {_kind(it) for it in wanted} for item in k8s.all(kind, ARGOCD)}
        root = next(item for item in wanted if _place(item) == ("Application", "root"))
        return all(_place(item) in there for item in wanted) and (
            there["Application", "root"]["spec"]["source"] == root["spec"]["source"]
        )

    def do(self) -> None:
        """Apply what Argo CD keeps from then on. Fields that are Argo CD's are taken back, to be its again."""
        arguments = ("--server-side", "--field-manager=darkroom", "--force-conflicts", "--filename=-")
        self.context.k8s.run("apply", *arguments, text=self._rendered())

    def undo(self) -> None:
        """Take away what is left of Argo CD's objects, and not what they made: the EKS cluster goes with it."""
        if k8s := self.context.kubernetes:
            for kind in ("applicationsets.argoproj.io", APPLICATIONS, "appprojects.argoproj.io"):
                names = [item["metadata"]["name"] for item in k8s.all(kind, ARGOCD)]
                if names := [name for name in names if (kind, name) != ("appprojects.argoproj.io", "default")]:
                    k8s.run("--namespace", ARGOCD, "delete", kind, *names, "--cascade=orphan", "--ignore-not-found")

    def _rendered(self) -> str:
        return _template(self.context)


@dataclass(frozen=True)
class Synced:
    """All Applications but those of the runtimes are as Git says, and well; and so are the composites."""

    context: Context
    title = "What Argo CD keeps"

    def is_done(self) -> bool:
        """Whether nothing is waited for any more."""
        k8s = self.context.kubernetes
        return k8s is not None and _has_root(k8s) and not list(waiting(k8s))

    def do(self) -> None:
        """Wait; raises ``StepFailed`` with what does not come, and why."""
        k8s = self.context.k8s
        wait_for_platform(self.context, "Argo CD brings the platform", lambda: not list(waiting(k8s)))

    def undo(self) -> None:
        """``teardown`` does it, before Argo CD's objects go."""


def wait_for_platform(context: Context, what: str, until: Callable[[], bool]) -> None:
    """Wait for something of the platform, and say what of it is still to come whenever that changes.

    Raises ``StepFailed`` with what does not come, and why.
    """
    said: list[str] = []

    def is_so() -> bool:
        left = list(waiting(context.k8s))
        for each in left:
            if each not in said:
                context.say(each)
        said[:] = left
        return until()

    try:
        context.wait(what, is_so)
    except StepFailed as error:
        raise StepFailed("\n".join([str(error), *(f"  {each}" for each in said)])) from error


def waiting(k8s: Kubectl) -> Iterator[str]:
    """What of the platform is not well yet, a line each, with what its controller says of it."""
    applications = k8s.all(APPLICATIONS, ARGOCD)
    for item in applications:
        if not item["metadata"]["name"].startswith("runtime-") and (trouble := _trouble(item)):
            yield f"{item['metadata']['name']}: {trouble}"
    for kind in ("Storage", "PromptApi", "ClusterAccess"):
        items = k8s.all(f"{PLURALS[kind]}.{GROUP}", DARKROOM)
        if not items:
            yield f"{kind}: there is none yet"
        for item in items:
            if not is_ready(item):
                yield f"{kind}: {said_of(item) or 'Crossplane has not looked at it yet'}"


def _trouble(application: Object) -> str | None:
    """Why an Application is not synced and healthy; None where it is both."""
    status = application.get("status", {})
    sync, health = status.get("sync", {}).get("status"), status.get("health", {}).get("status")
    if (sync, health) == ("Synced", "Healthy"):
        return None
    return _short(f"{sync or 'not looked at'}, {health or 'health unknown'}{_said(status)}")


def _said(status: Object) -> str:
    """What Argo CD says of it: an error of rendering, of the last sync, or of an object."""
    errors = [item["message"] for item in status.get("conditions", ()) if item["type"].endswith("Error")]
    operation = status.get("operationState", {})
    if operation.get("phase") in ("Failed", "Error", "Running") and operation.get("message"):
        errors.append(operation["message"])
    for item in status.get("resources", ()):
        health = item.get("health", {})
        if health.get("status") in ("Degraded", "Progressing", "Missing"):
            errors.append(f"{item['kind']} {item['name']}: {health.get('message') or health['status']}")
    return f": {errors[0]}" if errors else ""


def is_ready(composite: Object) -> bool:
    """Whether Crossplane has made a composite as its spec is now."""
    found = {item["type"]: item for item in composite.get("status", {}).get("conditions", ())}
    generation = composite["metadata"]["generation"]
    return all(
        found.get(kind, {}).get("status") == "True" and found[kind].get("observedGeneration", generation) >= generation
        for kind in ("Synced", "Ready")
    )


def said_of(composite: Object) -> str:
    """What the conditions of a composite, or of what it made, say is wrong."""
    conditions = {item["type"]: item for item in composite.get("status", {}).get("conditions", ())}
    for kind in ("ResourcesSynced", "ResourcesReady", "Synced", "Ready"):
        found = conditions.get(kind, {})
        if found.get("status") == "False":
            return _short(found.get("message") or f"{kind}: {found.get('reason')}")
    return ""


def _short(text: str, longest: int = 300) -> str:
    """In one line; of a long message the end is what counts."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:60]} … {line[-(longest - 63) :]}"


def _has_root(k8s: Kubectl) -> bool:
    return k8s.get(APPLICATIONS, "root", ARGOCD) is not None


def _template(context: Context, *more: str) -> str:
    files = context.root, context.folder.resolve()
    values = ("--values", str(files[1] / "cluster.yaml"))
    return programs.run("helm", "template", "root", str(files[0] / "apps" / "root"), *values, *more)


def _rendered_argo_cd(context: Context) -> Any:
    """Argo CD's own Application: beside an emulator there is none, and its version is the same."""
    file = ("--show-only", "templates/application-argo-cd.yaml")
    return yaml.safe_load(_template(context, "--set", "cluster.emulator=null", *file))


def _kind(item: Object) -> str:
    """Its kind, as kubectl takes it."""
    return f"{item['kind'].lower()}s.{item['apiVersion'].partition('/')[0]}"


def _place(item: Object) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]
