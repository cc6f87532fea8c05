"""The repository that Argo CD keeps a cluster by: ``gitops`` in a cluster's description. Pure."""

import re
from typing import Annotated, Self

from pydantic import model_validator

from darkroom_contract.rules import Grammar, within
from darkroom_contract.types import Description

#: Transports that prove neither the host nor what it says.
_UNSAFE_TRANSPORTS = ("http://", "git://", "file://")


_HookUrl = Annotated[
    str,
    Grammar(
        r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/api/webhook",
        "an https:// URL that ends with /api/webhook, where the Git host reaches it",
        2048,
    ),
]


class Webhook(Description):
    """Where the Git host reaches the two of Argo CD's services that it tells of a push."""

    applications: _HookUrl
    """The service ``argocd-server``, which has the Applications look at once."""
    runtimes: _HookUrl
    """The service ``argocd-applicationset-controller``, which sees new folders of runtimes."""

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.applications == self.runtimes:
            raise within("runtimes", "it is another service than that of applications: give it a URL of its own")
        return self


class GitOps(Description):
    """The repository that Argo CD keeps the cluster by."""

    repository: Annotated[
        str,
        Grammar(
            r"((https?|ssh|git)://[^\s/]+/|file:///|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:)[^\s?#]+",
            "the URL that Git clones the repository from: https://<host>/<path>.git, or git@<host>:<path>.git",
            2048,
        ),
    ]
    """The URL that Argo CD clones, https:// or SSH. Credentials are in a Secret of Argo CD's, never in the URL."""
    revision: Annotated[
        str,
        Grammar(
            "[A-Za-z0-9][A-Za-z0-9._/-]*",
            "a branch, a tag or a commit: letters, digits, dots, hyphens, underscores and slashes",
            255,
        ),
    ] = "main"
    """The branch (or tag, or commit) that the cluster follows: ``main`` when absent."""
    webhook: Webhook | None = None
    """Where the Git host tells Argo CD of a push; when absent Argo CD looks by itself, often."""

    @model_validator(mode="after")
    def _keeps_no_secret(self) -> Self:
        scheme, _, rest = self.repository.partition("://")
        user = rest.partition("/")[0].rpartition("@")[0]
        if user and (":" in user or scheme != "ssh"):
            raise within("repository", "it must not carry a user name or password: give Argo CD a Secret for it")
        return self

    @property
    def is_safely_cloned(self) -> bool:
        """Whether the transport proves the host and what it says."""
        return not self.repository.startswith(_UNSAFE_TRANSPORTS)

    @property
    def github(self) -> str | None:
        """The repository's owner and name, ``owner/name``; None if it is not on GitHub."""
        found = re.fullmatch(
            r"(?:https://|ssh://(?:[^@/]+@)?|[^@/:]+@)github\.com[/:]([^/]+/[^/]+?)(?:\.git)?/?", self.repository
        )
        return found[1] if found else None
