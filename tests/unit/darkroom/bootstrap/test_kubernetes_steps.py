"""What the steps in Kubernetes do that needs no API server: what is handed to whom, and when nothing is done."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from rich.console import Console

from darkroom import programs
from darkroom.bootstrap.credentials import SSH_KEY, TOKEN, ApiKeys, GrafanaPassword, RepositoryAccess
from darkroom.bootstrap.restarts import Identities
from darkroom.bootstrap.steps import ActRequired, Context, Options, StepFailed
from darkroom.bootstrap.webhook import Webhooks
from darkroom.cluster_files import load_cluster
from tests.unit.darkroom.bootstrap.objects import Objects, secret

HOOKS = {
    "applications": "https://argocd.example.org/api/webhook",
    "runtimes": "https://argocd-sets.example.org/api/webhook",
}
ACCESS = {
    "kind": "ClusterAccess",
    "metadata": {"name": "main", "namespace": "darkroom", "generation": 1},
    "status": {"conditions": [{"type": kind, "status": "True"} for kind in ("Synced", "Ready")]},
}


class There(Context):
    """What the steps share, with a cluster that runs."""

    objects: Objects

    @property
    def kubernetes(self) -> Objects:
        return self.objects


def context(folder: Path, objects: Objects, **cluster: Any) -> There:
    home = folder / "clusters" / "main"
    home.mkdir(parents=True, exist_ok=True)
    described = {
        "name": "main",
        "account": "123456789012",
        "region": "eu-west-1",
        "eksName": "main",
        "gitops": {"repository": "https://github.com/acme/darkroom.git"},
        **cluster,
    }
    (home / "cluster.yaml").write_text(yaml.safe_dump({"cluster": described}))
    (home / "images.yaml").write_text("images: {}\n")
    there = There(home, load_cluster(home), Console(file=io.StringIO()), Options(poll_seconds=0.01, wait_seconds=5))
    there.objects = objects
    return there


# Secrets


def test_a_key_that_is_there_is_never_written_again_and_a_missing_one_is_added(tmp_path: Path) -> None:
    there = secret("api-key-default", "darkroom", value="theirs")
    objects = Objects(secrets=[there])
    step = ApiKeys(context(tmp_path, objects, tenants=[{"name": "default", "keys": ["value", "second"]}]))
    assert not step.is_done()
    kept = there["data"]["value"]
    step.do()
    assert step.is_done()
    assert there["data"]["value"] == kept
    second = there["data"]["second"]
    step.do()
    assert there["data"]["second"] == second


def test_no_value_is_an_argument(tmp_path: Path) -> None:
    objects = Objects()
    shared = context(tmp_path, objects)
    ApiKeys(shared).do()
    GrafanaPassword(shared).do()
    assert len(objects.items["secrets"]) == 2
    assert not objects.commands


# The repository


class _Private(BaseHTTPRequestHandler):
    """A repository that lets in whoever has the token."""

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Basic Z2l0OnNlc2FtZQ==":  # git:sesame
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"ref: refs/heads/main\n" if self.path.endswith("HEAD") else b"0" * 39 + b"1\trefs/heads/main\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def private_repository() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Private)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/darkroom.git"
    finally:
        server.shutdown()
        server.server_close()


def test_a_private_repository_is_read_by_a_token_that_is_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    objects = Objects()
    with private_repository() as url:
        shared = context(tmp_path, objects, gitops={"repository": url}, emulator={"endpoint": "http://127.0.0.1:5000"})
        step = RepositoryAccess(shared)
        assert not step.is_done()
        with pytest.raises(ActRequired, match=f"read -rs {TOKEN}"):
            step.do()
        monkeypatch.setenv(TOKEN, "wrong")
        with pytest.raises(ActRequired, match="does not let the user git in") as refused:
            step.do()
        assert "wrong" not in str(refused.value)
        assert not step.is_done()
        monkeypatch.setenv(TOKEN, "sesame")
        step.do()
        monkeypatch.delenv(TOKEN)
        assert step.is_done()
    (made,) = objects.items["secrets"]
    assert made["metadata"]["labels"] == {"argocd.argoproj.io/secret-type": "repository"}
    assert made["stringData"] == {"type": "git", "url": url, "username": "git", "password": "sesame"}


def test_a_repository_by_ssh_wants_a_deploy_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SSH_KEY, raising=False)
    objects = Objects()
    step = RepositoryAccess(context(tmp_path, objects, gitops={"repository": "git@github.com:acme/darkroom.git"}))
    assert not step.is_done()
    with pytest.raises(ActRequired, match="ssh-keygen"):
        step.do()
    monkeypatch.setenv(SSH_KEY, "the key")
    step.do()
    assert step.is_done()
    assert objects.items["secrets"][0]["stringData"]["sshPrivateKey"] == "the key\n"


# Webhooks


class GitHub:
    """``gh api`` for the hooks of a repository."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hooks: dict[int, dict[str, Any]] = {}
        self.commands: list[str] = []
        self.dies_after = -1
        monkeypatch.setattr(programs, "run", self)

    def __call__(self, *command: str, text: str | None = None, **_: Any) -> str:
        self.commands.append(" ".join(command))
        if "--method" not in command:
            return json.dumps([{"id": number, "config": hook["config"]} for number, hook in self.hooks.items()])
        if len(self.hooks) == self.dies_after:
            raise programs.ProgramFailed("it was to fail")
        method, path = command[4], command[5]
        number = int(path.rpartition("/")[2]) if path[-1].isdigit() else len(self.hooks) + 1
        if method == "DELETE":
            del self.hooks[number]
        else:
            self.hooks[number] = json.loads(text or "")
        return ""


def test_both_hooks_and_argo_cd_know_one_secret_that_nobody_else_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    github, argo_cd = GitHub(monkeypatch), secret("argocd-secret", "argocd")
    gitops = {"repository": "git@github.com:acme/darkroom.git", "webhook": HOOKS}
    step = Webhooks(context(tmp_path, Objects(secrets=[argo_cd]), gitops=gitops))
    github.dies_after = 1
    with pytest.raises(programs.ProgramFailed):
        step.do()
    assert not step.is_done()
    github.dies_after = -1
    step.do()
    assert step.is_done()
    (value,) = {hook["config"]["secret"] for hook in github.hooks.values()}
    assert {hook["config"]["url"] for hook in github.hooks.values()} == set(HOOKS.values())
    assert all(hook["events"] == ["push"] for hook in github.hooks.values())
    assert secret("x", "x", field=value)["data"]["field"] == argo_cd["data"]["webhook.github.secret"]
    assert value not in "".join(github.commands)
    assert "gh api --silent --method POST repos/acme/darkroom/hooks --input -" in github.commands
    step.undo()
    assert not github.hooks


@pytest.mark.parametrize(
    "gitops",
    [
        {"repository": "https://github.com/acme/darkroom.git"},
        {"repository": "https://gitlab.com/acme/darkroom.git", "webhook": HOOKS},
    ],
)
def test_no_hook_is_made_that_is_not_asked_for_or_not_githubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gitops: dict[str, Any]
) -> None:
    github = GitHub(monkeypatch)
    step = Webhooks(context(tmp_path, Objects(), gitops=gitops))
    assert step.is_done()
    step.undo()
    assert not github.commands


# Pods that are older than their identity


def pod(name: str, namespace: str, label: str, *, identity: bool, ends: bool = False) -> dict[str, Any]:
    env = [{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"}]
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": dict([label.split("=")])}
    if ends:
        metadata["deletionTimestamp"] = "2026-11-22T00:00:00Z"
    return {"metadata": metadata, "spec": {"containers": [{"name": "main", "env": env if identity else []}]}}


def test_only_what_is_older_than_its_identity_starts_anew_and_only_once(tmp_path: Path) -> None:
    class Restarting(Objects):
        def run(self, *arguments: str, text: str | None = None) -> str:
            if arguments[:2] == ("rollout", "restart"):
                self.items["pods"][0] = pod("new", "keda", "app=keda-operator", identity=True)
            return super().run(*arguments, text=text)

    objects = Restarting(
        clusteraccesses=[ACCESS],
        pods=[
            pod("old", "keda", "app=keda-operator", identity=False),
            pod("last", "keda", "app=keda-operator", identity=False, ends=True),
            pod("well", "kube-system", "app.kubernetes.io/name=karpenter", identity=True),
        ],
    )
    step = Identities(context(tmp_path, objects))
    assert not step.is_done()
    step.do()
    assert objects.commands == [
        ("rollout", "restart", "deployment/keda-operator", "--namespace", "keda"),
        ("rollout", "status", "deployment/keda-operator", "--namespace", "keda", "--timeout", "10m"),
    ]
    assert step.is_done()


def test_pods_that_never_get_an_identity_are_not_restarted_for_ever(tmp_path: Path) -> None:
    old = pod("old", "kube-system", "app=s3-csi-node", identity=False)
    objects = Objects(clusteraccesses=[ACCESS], pods=[old])
    with pytest.raises(StepFailed, match=r"EKS gives s3-csi-node no identity.*eks-pod-identity-agent"):
        Identities(context(tmp_path, objects)).do()
    assert len(objects.commands) == 2


def test_nothing_is_restarted_before_the_identities_are_there(tmp_path: Path) -> None:
    step = Identities(context(tmp_path, Objects(pods=[])))
    assert not step.is_done()
