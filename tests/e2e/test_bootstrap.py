"""``darkroom bootstrap`` and ``darkroom destroy``: from nothing to a cluster and back, on a real control plane.

Real are the API server, kubectl, helm's rendering, Argo CD, Crossplane and Karpenter. AWS is moto, and what makes an
EKS cluster, or installs a chart that cannot be pulled, is played (``tests.programs``): Argo CD is there already.
"""

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from rich.console import Console

from darkroom import programs
from darkroom.bootstrap import destroy, leftovers, steps, summary
from darkroom.bootstrap.plan import steps as plan
from darkroom.bootstrap.steps import Context, Options
from darkroom.cluster_files import load_cluster
from darkroom.local import kinds
from darkroom_contract.names import Bucket, api_key_prefix
from tests.charts.helm import helm
from tests.e2e.controlplane import argocd
from tests.e2e.controlplane.api import Api, Object, is_gone
from tests.e2e.controlplane.binaries import component
from tests.e2e.controlplane.cluster import GitOpsCluster
from tests.e2e.controlplane.repository import project_files
from tests.e2e.gitops import is_synced_and_healthy
from tests.e2e.provider import Provider
from tests.programs import ACCOUNT, Account, Programs, account, install

CLUSTER, REGION = "fresh", "eu-west-1"
FOLDER = f"clusters/{CLUSTER}"
TENANTS: list[dict[str, Any]] = [{"name": "default"}, {"name": "acme", "keys": ["value", "second"]}]
#: What changes something, by how its command line begins.
CHANGES = (
    *(f"kubectl {verb}" for verb in ("apply", "create", "patch", "delete", "rollout restart")),
    *(f"helm {verb}" for verb in ("install", "uninstall", "upgrade")),
    *(f"eksctl {verb}" for verb in ("create", "delete")),
    *("gh workflow run", "gh api --silent --method"),
)


class Killed(BaseException):
    """The program was killed."""


@dataclass
class Interruptions:
    """Has each command that changes something fail the first time, and the program killed after it did its work."""

    active: bool = False
    #: Whether it fails at all.
    fails: bool = True
    seen: Counter[str] = field(default_factory=Counter)
    lines: set[str] = field(default_factory=set)
    changes: list[str] = field(default_factory=list)

    def around(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """What runs commands, so that they are seen, and broken off."""

        def instead(*command: str, **more: Any) -> Any:
            line = _without_kubeconfig(command)
            if not line.startswith(CHANGES):
                return run(*command, **more)
            self.changes.append(line)
            self.lines.add(line)
            self.seen[line] += self.active
            if self.active and self.fails and self.seen[line] == 1:
                raise programs.ProgramFailed(f"{line}\nended with status 1:\n  it was to fail")
            said = run(*command, **more)
            if self.active and self.seen[line] == 1 + self.fails:
                raise Killed
            return said

        return instead


@dataclass(frozen=True)
class Site:
    """The cluster to be, and all around it."""

    cluster: GitOpsCluster
    aws: Account
    played: Programs
    commands: Interruptions
    folder: Path
    #: What each run said.
    said: list[str] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.cluster.api

    def context(self, action: str = "bootstrap", *, dry_run: bool = False) -> Context:
        """As of a command that was just typed."""
        console = Console(file=io.StringIO(), width=200)
        options = Options(dry_run=dry_run, poll_seconds=0.2, wait_seconds=180, settle_seconds=20)
        return Context(self.folder, load_cluster(self.folder), console, options, action=action)

    def until_done(self, go: Callable[[], Any]) -> int:
        """Type a command again and again until it comes to its end; how often it was broken off."""
        before = ""
        for broken in range(200):
            try:
                go()
            except (steps.StepFailed, Killed) as error:
                if repr(error) == before and not isinstance(error, Killed):
                    raise  # it goes on no more
                before = repr(error)
                continue
            return broken
        raise AssertionError("it does not come to an end")

    def interrupted(self, go: Callable[[], None], *, fails: bool) -> int:
        """The same, where every change is the last that happens once, and fails before that."""
        self.commands.active, self.commands.fails = True, fails
        self.commands.seen.clear()
        try:
            return self.until_done(go)
        finally:
            self.commands.active = False

    def bootstrap(self) -> None:
        """What ``darkroom bootstrap`` does."""
        context = self.context()
        try:
            steps.run(plan(context), context)
        finally:
            context.close()
            self.said.append(said(context))

    def destroy(self) -> None:
        """What ``darkroom destroy --keep-data`` does."""
        context = self.context("destroy")
        try:
            destroy.run(context, delete_data=False)
        finally:
            context.close()
            self.said.append(said(context))

    def secret(self, name: str, namespace: str) -> dict[str, str]:
        """What a Secret has in it."""
        found = self.api.find("v1", "Secret", name, namespace)
        assert found
        return {field: base64.b64decode(value).decode() for field, value in found["data"].items()}

    def versions(self) -> dict[str, Any]:
        """What the bootstrap makes, with what changes when somebody writes it. Argo CD writes Applications' status."""
        found: list[Object] = []
        for kind in ("Namespace", "Secret"):
            found += self.api.list("v1", kind)
        for kind in ("Application", "ApplicationSet", "AppProject"):
            found += self.api.list("argoproj.io/v1alpha1", kind)
        ours = (item for item in found if "darkroom" in str(item["metadata"].get("managedFields")))
        return {
            f"{item['kind']} {item['metadata']['name']}": item["spec"]
            if item["kind"].startswith("App")
            else item["metadata"]["resourceVersion"]
            for item in ours
        }


def said(context: Context) -> str:
    assert isinstance(context.console.file, io.StringIO)
    return context.console.file.getvalue()


@pytest.fixture(scope="module")
def site(gitops_cluster: GitOpsCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A repository with a cluster's folder, an empty account, and a control plane with nothing of Darkroom's in it."""
    if gitops_cluster.api.find("argoproj.io/v1alpha1", "Application", "root", argocd.NAMESPACE):
        pytest.skip("the control plane has a cluster of Darkroom's already: it is run before that comes up")
    tools = tmp_path_factory.mktemp("tools")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        with account() as aws:
            played = install(tools, aws.url, only=("aws", "eksctl", "gh", "cosign"))
            played.give_kubeconfig(gitops_cluster.api.kubeconfig)
            _install_real(tools)
            for name, value in played.environment.items():
                patch.setenv(name, value)
            repository = gitops_cluster.repository
            repository.commit("A cluster", _files(repository.url, aws.url))
            folder = repository.folder / FOLDER
            stand_in = kinds.Aws(boto3.Session("testing", "testing", region_name=REGION), aws.url, {})
            with Provider(gitops_cluster.api.kubeconfig, stand_in):
                commands = Interruptions()
                for name in ("run", "show"):
                    patch.setattr(programs, name, commands.around(getattr(programs, name)))
                yield Site(gitops_cluster, aws, played, commands, folder)
                _leave(gitops_cluster.api)


def test_a_cluster_comes_up_from_nothing_whatever_breaks_it_off(site: Site) -> None:
    broken = site.interrupted(site.bootstrap, fails=True)
    assert broken >= 2 * len(set(site.commands.changes)) > 0
    for name in ("root", "platform", "gpu-nodes"):
        found = site.api.find("argoproj.io/v1alpha1", "Application", name, argocd.NAMESPACE)
        assert found
        assert is_synced_and_healthy(found)


def test_a_second_run_changes_nothing(site: Site) -> None:
    before = site.versions()
    site.commands.changes.clear()
    context = site.context()
    called: list[str] = []
    context.session.events.register("before-call", lambda model, **_: called.append(model.name))
    steps.run(plan(context), context)
    context.close()
    assert not site.commands.changes
    assert not [name for name in called if not name.startswith(("Describe", "Get", "List", "Head"))]
    assert site.versions() == before
    assert said(context).count("there") == len(plan(context))


def test_argo_cd_is_installed_as_it_keeps_itself(site: Site) -> None:
    (install,) = {line for line in site.commands.lines if line.startswith("helm install")}
    root = site.folder.parents[1]
    assert install == (
        "helm install argocd argo-cd --repo https://argoproj.github.io/argo-helm --version 10.10.1 --namespace argocd "
        f"--create-namespace --values {root}/apps/root/values/argo-cd.yaml --wait --timeout 15m"
    )


def test_every_tenant_has_its_keys_and_nobody_is_told_them(site: Site) -> None:
    said = "\n".join([*site.commands.lines, *site.said, *summary.lines(site.context())])
    for tenant in TENANTS:
        fields = tenant.get("keys", ["value"])
        data = site.secret(f"api-key-{tenant['name']}", "darkroom")
        assert sorted(data) == sorted(fields)
        for value in data.values():
            assert value.startswith(api_key_prefix(str(tenant["name"])))
            assert 20 < len(value) <= 128
            assert value not in said
    password = site.secret("grafana-admin", "monitoring")["admin-password"]
    assert password not in said
    api = site.api.find("darkroom.dev/v1alpha1", "PromptApi", CLUSTER, "darkroom")
    assert api
    assert not api["status"].get("wrongKeys")
    assert api["status"]["apiUrl"] in said


def test_a_destroy_that_is_rehearsed_changes_nothing(site: Site) -> None:
    before = site.versions()
    site.commands.changes.clear()
    context = site.context("destroy", dry_run=True)
    destroy.run(context, delete_data=True)
    context.close()
    assert not site.commands.changes
    assert site.versions() == before


def test_a_cluster_is_taken_down_whatever_breaks_it_off_and_its_data_stays(site: Site) -> None:
    # Something that runs on one of Karpenter's nodes, and a runtime.
    site.api.apply(GPU_POD)
    site.api.wait("v1", "Pod", "player", "default", lambda item: bool(item.get("spec", {}).get("nodeName")))
    place = "argoproj.io/v1alpha1", "Application", "runtime-sdxl", argocd.NAMESPACE
    site.api.wait(*place, is_synced_and_healthy, 120)
    names = site.context().names
    s3 = site.aws.client("s3")
    s3.put_object(Bucket=names.bucket(Bucket.OUTPUTS), Key="picture.png", Body=b"picture")
    site.interrupted(site.destroy, fails=False)

    assert {it["Name"] for it in s3.list_buckets()["Buckets"]} == {names.bucket(purpose) for purpose in Bucket}
    assert not site.aws.client("eks").list_clusters()["clusters"]
    assert not site.aws.client("sqs").list_queues().get("QueueUrls")
    assert not site.aws.client("sns").list_topics()["Topics"]
    assert not site.aws.client("apigateway").get_rest_apis()["items"]
    assert not site.aws.client("lambda").list_functions()["Functions"]
    iam = site.aws.client("iam")
    assert not iam.list_roles(PathPrefix=names.role_path)["Roles"]
    assert not iam.list_policies(PathPrefix=names.role_path)["Policies"]
    assert not site.api.list("karpenter.sh/v1", "NodeClaim")
    left = [*leftovers.find(site.context())]
    buckets = [each for each in left if each.what.startswith("Bucket ")]
    assert {each.what for each in buckets} == {f"Bucket {names.bucket(purpose)}" for purpose in Bucket}
    assert "1 objects, 7 bytes" in {each.detail for each in buckets}


def test_what_is_gone_is_not_taken_away_again(site: Site) -> None:
    site.commands.changes.clear()
    site.destroy()
    assert not site.commands.changes


GPU_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "player", "namespace": "default"},
    "spec": {
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "main", "image": "x.invalid/x", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
    },
}


def _leave(api: Api) -> None:
    """Take away what would go with the EKS cluster, since other tests go on with this one."""
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        for item in api.list("admissionregistration.k8s.io/v1", kind):
            if item["metadata"]["name"].startswith("darkroom"):
                api.delete("admissionregistration.k8s.io/v1", kind, item["metadata"]["name"])
    api.delete("v1", "Pod", "player", "default", grace_seconds=0)
    for name in ("darkroom", "monitoring"):
        api.delete("v1", "Namespace", name)
        api.wait("v1", "Namespace", name, None, is_gone, 120)


def _files(repository: str, endpoint: str) -> dict[str, str | None]:
    cluster = {
        "name": CLUSTER,
        "account": ACCOUNT,
        "region": REGION,
        "eksName": CLUSTER,
        "tenants": TENANTS,
        "gitops": {"repository": repository},
        "emulator": {"endpoint": endpoint},
    }
    registry = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/darkroom"
    images = {
        name: f"{registry}/{name}@sha256:{'0' * 64}" for name in ("agent", "api", "function", "sdwebui", "comfyui")
    }
    eksctl = project_files("clusters/example/eksctl.yaml").get("clusters/example/eksctl.yaml")
    return {
        **project_files("apps", "crossplane"),
        f"{FOLDER}/eksctl.yaml": eksctl.replace("example", CLUSTER)
        if eksctl
        else yaml.safe_dump({"metadata": {"name": CLUSTER, "region": REGION, "version": "1.35"}}),
        f"{FOLDER}/cluster.yaml": yaml.safe_dump({"cluster": cluster}),
        f"{FOLDER}/images.yaml": yaml.safe_dump({"images": images}),
        f"{FOLDER}/runtimes/sdxl/runtime.yaml": yaml.safe_dump({"runtime": {"engine": "sdwebui"}}),
    }


def _install_real(folder: Path) -> None:
    """The real kubectl; and the real helm, but for what needs a chart from elsewhere, which it remembers alone."""
    (folder / "kubectl").symlink_to(component("kubectl") / "bin" / "kubectl")
    releases = folder / "releases.json"
    deployed = json.dumps([{"name": "argocd", "namespace": "argocd", "status": "deployed"}])
    (folder / "helm").write_text(
        f"""#!/bin/sh
case "$1" in
  list) cat {releases} 2>/dev/null || echo '[]' ;;
  install) echo '{deployed}' > {releases} ;;
  uninstall) rm -f {releases} ;;
  *) exec {helm()} "$@" ;;
esac
"""
    )
    (folder / "helm").chmod(0o755)


def _without_kubeconfig(command: Sequence[str]) -> str:
    """A command line, without where the kubeconfig is and without the namespace before the verb."""
    words = iter(command)
    kept = []
    for word in words:
        if word == "--kubeconfig":
            next(words)
        else:
            kept.append(word)
    if kept[0] == "kubectl" and kept[1] == "--namespace":
        kept = [kept[0], *kept[3:], *kept[1:3]]
    return " ".join(kept)
