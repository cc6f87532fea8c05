"""What nobody may know: the API keys, Grafana's password, and what Argo CD reads a private repository with.

Each value is made once, and is never written again, said, or handed to a program as an argument. Where they are is in
Kubernetes alone: the namespaces that they are in are made first.
"""

import base64
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from darkroom import programs
from darkroom.bootstrap.steps import ActRequired, Context
from darkroom.kubectl import Kubectl, Object
from darkroom_contract.names import api_key_prefix
from darkroom_function.gateway import api_key_secret

#: The namespaces of the runtimes, of Argo CD, and of Grafana.
DARKROOM, ARGOCD, MONITORING = "darkroom", "argocd", "monitoring"
GRAFANA_SECRET = "grafana-admin"  # noqa: S105 - its name
_REPOSITORY_SECRET = "repository-darkroom"  # noqa: S105 - its name
_REPOSITORY_LABEL = {"argocd.argoproj.io/secret-type": "repository"}
#: What a private repository is read with is taken from here.
TOKEN, USER, SSH_KEY = "DARKROOM_REPOSITORY_TOKEN", "DARKROOM_REPOSITORY_USER", "DARKROOM_REPOSITORY_SSH_KEY"


@dataclass(frozen=True)
class Namespaces:
    """What the Secrets are in. The runtimes' is as ``apps/platform`` has it, so that Argo CD finds it so."""

    context: Context
    title = "Namespaces"

    def is_done(self) -> bool:
        """Whether they are there, with their labels."""
        k8s = self.context.kubernetes
        return k8s is not None and all(_is_there(k8s, item) for item in self._wanted())

    def do(self) -> None:
        """Make those that are not."""
        self.context.k8s.apply(item for item in self._wanted() if not _is_there(self.context.k8s, item))

    def undo(self) -> None:
        """Have the runtimes' and Grafana's end, with the Secrets in them. It is not waited for: EKS goes next."""
        if k8s := self.context.kubernetes:
            k8s.run("delete", "namespace", DARKROOM, MONITORING, "--ignore-not-found", "--wait=false")

    def _wanted(self) -> list[Object]:
        # No template of Helm's has anything to fill in there.
        file = self.context.root / "apps" / "platform" / "templates" / "namespace.yaml"
        others = ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": it}} for it in (ARGOCD, MONITORING))
        return [yaml.safe_load(file.read_text()), *others]


@dataclass(frozen=True)
class ApiKeys:
    """A key of the API for each field of each tenant's Secret, before the API is made of them."""

    context: Context
    title = "API keys"

    def is_done(self) -> bool:
        """Whether no tenant lacks a key."""
        k8s = self.context.kubernetes
        return k8s is not None and not any(_missing(k8s, *each) for each in self._wanted().items())

    def do(self) -> None:
        """Make the keys that are missing; none that is there is touched."""
        k8s = self.context.k8s
        for name, (prefix, fields) in self._wanted().items():
            missing = _missing(k8s, name, (prefix, fields))
            _add(k8s, name, DARKROOM, {field: prefix + secrets.token_hex(20) for field in missing})

    def undo(self) -> None:
        """They go with their namespace."""

    def _wanted(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """How the keys begin, and the fields that they are in, by the names of the Secrets."""
        tenants = self.context.cluster.tenants
        return {api_key_secret(it.name): (api_key_prefix(it.name), it.keys) for it in tenants}


@dataclass(frozen=True)
class GrafanaPassword:
    """Grafana's administrator; without it Grafana does not start."""

    context: Context
    title = "Grafana's password"

    def is_done(self) -> bool:
        """Whether there is any."""
        k8s = self.context.kubernetes
        return k8s is not None and k8s.get("secrets", GRAFANA_SECRET, MONITORING) is not None

    def do(self) -> None:
        """Make one that nobody knows."""
        login = {"admin-user": "admin", "admin-password": secrets.token_hex(20)}
        _add(self.context.k8s, GRAFANA_SECRET, MONITORING, login)

    def undo(self) -> None:
        """It goes with its namespace."""


@dataclass(frozen=True)
class RepositoryAccess:
    """Argo CD may read the repository: it is public, or there are credentials."""

    context: Context
    title = "Argo CD's access to the repository"

    def is_done(self) -> bool:
        """Whether credentials are there, or none are needed."""
        k8s = self.context.kubernetes
        return k8s is not None and (self._has_secret(k8s) or _reads(self._url))

    def do(self) -> None:
        """Make the Secret of what the environment has; raises ``ActRequired`` where it has nothing that works."""
        by_ssh = not self._url.startswith(("https://", "http://"))
        key, token = os.environ.get(SSH_KEY), os.environ.get(TOKEN)
        if by_ssh and not key:
            raise ActRequired(
                f"Argo CD reads {self._url} by SSH: make a key without a passphrase (ssh-keygen -N '' -f deploy-key), "
                f"register deploy-key.pub with the repository, as a deploy key that may only read, and\n"
                f'  export {SSH_KEY}="$(cat deploy-key)"'
            )
        if not by_ssh and not token:
            raise ActRequired(
                f"{self._url} cannot be read without credentials. Make a token that may only read this repository, and"
                f"\n  read -rs {TOKEN} && export {TOKEN}\nThe user that it is sent with is {USER}, or git. If the "
                "repository is meant to be public, see that gitops.repository is its URL"
            )
        login = {"sshPrivateKey": f"{key}\n"} if by_ssh else self._login(token or "")
        fields = {"type": "git", "url": self._url, **login}
        _add(self.context.k8s, _REPOSITORY_SECRET, ARGOCD, fields, _REPOSITORY_LABEL)

    def undo(self) -> None:
        """Take the credentials away."""
        if k8s := self.context.kubernetes:
            k8s.run("--namespace", ARGOCD, "delete", "secret", _REPOSITORY_SECRET, "--ignore-not-found")

    @property
    def _url(self) -> str:
        return self.context.gitops.repository

    def _login(self, token: str) -> dict[str, str]:
        user = os.environ.get(USER, "git")
        if not _reads(self._url, f"{user}:{token}"):
            raise ActRequired(
                f"{self._url} does not let the user {user} in with the token of {TOKEN}: see that it may read this "
                f"repository and has not expired, and that {USER} is its user, where the Git host asks for that"
            )
        return {"username": user, "password": token}

    def _has_secret(self, k8s: Kubectl) -> bool:
        selector = ",".join(f"{key}={value}" for key, value in _REPOSITORY_LABEL.items())
        found = (item.get("data", {}).get("url", "") for item in k8s.all("secrets", ARGOCD, selector))
        return self._url in {base64.b64decode(url).decode() for url in found}


def _is_there(k8s: Kubectl, wanted: Object) -> bool:
    """Whether there is such a namespace, with the labels that it has to have."""
    found = k8s.get("namespaces", wanted["metadata"]["name"])
    labels = (found or {}).get("metadata", {}).get("labels", {})
    return found is not None and labels.items() >= wanted["metadata"].get("labels", {}).items()


def _missing(k8s: Kubectl, name: str, wanted: tuple[str, tuple[str, ...]]) -> list[str]:
    """The fields that a Secret of API keys lacks."""
    found = (k8s.get("secrets", name, DARKROOM) or {}).get("data", {})
    return [field for field in wanted[1] if not found.get(field)]


def _add(
    k8s: Kubectl, name: str, namespace: str, fields: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> None:
    """Make a Secret, or add fields to it; the API server refuses it if somebody else was faster."""
    if not fields:
        return
    found = k8s.get("secrets", name, namespace)
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
    if not found:
        k8s.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(fields)})
        return
    version = {"resourceVersion": found["metadata"]["resourceVersion"]}
    k8s.patch("secrets", name, namespace, {"metadata": version, "stringData": dict(fields)})


def _reads(url: str, login: str | None = None) -> bool:
    """Whether a repository can be read by these credentials alone, or by everybody: not as the user is set up."""
    if not url.startswith(("https://", "http://", "git://")):
        return False  # nobody is let in by SSH without a key
    alone = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "HOME": os.devnull,  # there may be a .netrc in the user's
    }
    if login:
        value = f"Authorization: Basic {base64.b64encode(login.encode()).decode()}"
        alone |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader", "GIT_CONFIG_VALUE_0": value}
    try:
        programs.run("git", "-c", "credential.helper=", "ls-remote", "--quiet", url, "HEAD", env=alone)
    except programs.ProgramFailed as error:
        if any(words in str(error).lower() for words in _NOT_LET_IN):
            return False
        raise
    return True


#: What git, or a Git host, says to whom it does not let in. GitHub says that there is no such repository.
_NOT_LET_IN = ("authentication failed", "could not read username", "terminal prompts disabled", "not found", "403")
