"""The Git host tells Argo CD of pushes: two hooks, and the secret by which Argo CD knows them. GitHub's alone.

The secret is handed to ``gh`` and ``kubectl`` by their standard input.
"""

import base64
import json
import secrets
from dataclasses import dataclass
from typing import Any

from darkroom import programs
from darkroom.bootstrap.credentials import ARGOCD
from darkroom.bootstrap.steps import Context
from darkroom.kubectl import Kubectl

_SECRET, _FIELD = "argocd-secret", "webhook.github.secret"


@dataclass(frozen=True)
class Webhooks:
    """The hooks that ``gitops.webhook`` asks for. On another host than GitHub they are made by hand."""

    context: Context
    title = "Webhooks"

    def is_done(self) -> bool:
        """Whether Argo CD knows a secret, and there is a hook for each URL; or whether none is asked for."""
        if self.context.gitops.github is None or not self._urls:
            return True
        k8s = self.context.kubernetes
        return k8s is not None and self._known(k8s) is not None and self._urls <= self._hooks().keys()

    def do(self) -> None:
        """Make the hooks. Argo CD is told the secret last: until then an interrupted run is one that made none."""
        k8s = self.context.k8s
        known = self._known(k8s)
        secret = known or secrets.token_hex(32)
        hooks = self._hooks()
        for url in sorted(self._urls):
            config = {"url": url, "content_type": "json", "insecure_ssl": "0", "secret": secret}
            if url in hooks:
                self._gh("PATCH", f"hooks/{hooks[url]}", {"config": config, "active": True, "events": ["push"]})
            else:
                self._gh("POST", "hooks", {"name": "web", "config": config, "active": True, "events": ["push"]})
        if known is None:
            k8s.patch("secrets", _SECRET, ARGOCD, {"stringData": {_FIELD: secret}})

    def undo(self) -> None:
        """Take the hooks away: nobody listens to them any more."""
        if self.context.gitops.github is None or not self._urls:
            return
        for url, hook in self._hooks().items():
            if url in self._urls:
                self._gh("DELETE", f"hooks/{hook}")

    @property
    def _urls(self) -> set[str]:
        hook = self.context.gitops.webhook
        return {hook.applications, hook.runtimes} if hook else set()

    def _hooks(self) -> dict[str, int]:
        """The hooks' numbers by their URLs."""
        found = json.loads(programs.run("gh", "api", f"repos/{self.context.gitops.github}/hooks?per_page=100") or "[]")
        return {item["config"]["url"]: item["id"] for item in found if "url" in item["config"]}

    def _gh(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        given = ("--input", "-") if body else ()
        command = ("gh", "api", "--silent", "--method", method, f"repos/{self.context.gitops.github}/{path}", *given)
        programs.run(*command, text=json.dumps(body) if body else None)

    def _known(self, k8s: Kubectl) -> str | None:
        """The secret that Argo CD knows."""
        value = (k8s.get("secrets", _SECRET, ARGOCD) or {}).get("data", {}).get(_FIELD)
        return base64.b64decode(value).decode() if value else None
