"""Pins as a pull request on GitHub: one is open for a cluster, and it has all pins that are not merged yet.

Its branch, ``pin/<cluster>/<hash of the file>``, has one commit on top of the branch that Argo CD follows. The commit
is made without a working tree, so that whatever is being edited is not touched. Git and gh do the rest.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom import pin, programs
from darkroom.images import IMAGES, source_tag
from darkroom.trouble import UsageError

#: Git asks gh who is asking, where it is asked by GitHub over https://.
_AS_GH = ("-c", "credential.https://github.com.helper=!gh auth git-credential")
#: What a workflow's commits are by (actions/checkout, README), where git does not know better.
_BOT = {"user.name": "github-actions[bot]", "user.email": "41898282+github-actions[bot]@users.noreply.github.com"}
_MAX_COMMITS = 30
#: How often to begin anew when others pin at the same time.
_ROUNDS = 5


@dataclass(frozen=True)
class PullRequest:
    """A pull request that is open."""

    number: int
    url: str
    branch: str


@dataclass(frozen=True)
class Proposal:
    """What a pull request would have changed, and where it is; without a change there is none."""

    changes: list[pin.Change]
    url: str | None = None


def propose(
    folder: Path, references: Mapping[str, str], repositories: pin.Repositories, verify: pin.Verifier
) -> Proposal:
    """Ask by a pull request for images, by digest, in a cluster's ``images.yaml``.

    What older pull requests of pins, still open, ask for is in it, too, and they are closed then. One of the same
    content is found, and not doubled. Raises ``PinRefused`` if any of all those may not run, ``ProgramFailed`` where
    git or gh fail: then the same command, again, goes on.
    """
    pin.check(references, repositories, verify)
    with pin.alone(folder):
        work = _Work.of(folder, repositories)
        for _ in range(_ROUNDS):
            older, there = work.open_requests(), work.fetched()
            if any(it.branch not in there for it in older):
                continue  # closed meanwhile
            carried = {name: it for name, it in work.carried(older).items() if name not in references}
            pin.check(carried, repositories, verify)
            content, changes = pin.pinned(work.path, work.file(), {**carried, **references})
            if not changes:
                work.close(older, f"{work.revision} has other pins than these by now, and they are what is wanted.")
                return Proposal([])
            branch = f"pin/{work.cluster}/{hashlib.sha256(content).hexdigest()[:12]}"
            request = _on(branch, older)
            if request is None or work.file(branch) != content:
                request = work.create(branch, content, changes, older)
            # Of two that pin at once, the one whose pull request is the younger takes the other's into its own.
            if any(it.number < request.number and it not in older for it in work.open_requests()):
                continue
            superseded = [it for it in older if it != request]
            work.close(superseded, f"Superseded by {request.url}, which has these pins, too.")
            return Proposal(changes, request.url)
    raise UsageError("others pin all the time: pin again later")


def _on(branch: str, requests: Sequence[PullRequest]) -> PullRequest | None:
    return next((it for it in requests if it.branch == branch), None)


@dataclass(frozen=True)
class _Work:
    """A clone, the repository on GitHub behind it, and the cluster's file in both."""

    root: Path
    path: Path
    """The file's, from the root."""
    cluster: str
    repository: str
    revision: str

    @classmethod
    def of(cls, folder: Path, repositories: pin.Repositories) -> "_Work":
        gitops = repositories.cluster.gitops
        if gitops is None or gitops.github is None:
            raise UsageError(
                "the repository in cluster.gitops is not on GitHub: pin without --pull-request, and commit the file"
            )
        root = pin.root_of(folder)
        path = folder.resolve().relative_to(root.resolve()) / pin.FILE
        return cls(root, path, repositories.cluster.name, gitops.github, gitops.revision)

    # What is there

    def open_requests(self) -> list[PullRequest]:
        """The cluster's, the oldest first. Those from forks are none of them."""
        fields = "number,url,headRefName,isCrossRepository"
        listed = self._gh("list", "--state", "open", "--base", self.revision, "--limit", "1000", "--json", fields)
        return sorted(
            (
                PullRequest(it["number"], it["url"], it["headRefName"])
                for it in json.loads(listed)
                if it["headRefName"].startswith(f"pin/{self.cluster}/") and not it["isCrossRepository"]
            ),
            key=lambda it: it.number,
        )

    def fetched(self) -> list[str]:
        """Fetch the branch that Argo CD follows, and pins; which pins the remote has."""
        branches = (
            f"+refs/heads/{self.revision}:{self._ref('base')}",
            f"+refs/heads/pin/{self.cluster}/*:{self._ref('pin')}/*",
        )
        self._git(*_AS_GH, "fetch", "--quiet", "--no-tags", "--prune", "origin", *branches)
        there = self._git("for-each-ref", "--format=%(refname:lstrip=4)", self._ref("pin")).split()
        return [f"pin/{self.cluster}/{hash_of_content}" for hash_of_content in there]

    def file(self, branch: str | None = None) -> bytes:
        """The file on a branch of pins that was fetched, or else on the one that Argo CD follows."""
        return self._file(self._fetched_to(branch) if branch else self._ref("base"))

    def carried(self, requests: Sequence[PullRequest]) -> dict[str, str]:
        """What pull requests ask for, the younger one's where two have the same image.

        Of an image that has changed meanwhile on the branch that Argo CD follows they ask for nothing.
        """
        now, carried = self._images(self._ref("base")), dict[str, str]()
        for request in requests:
            wanted = self._images(self._fetched_to(request.branch))
            before = self._images(self._git("merge-base", self._ref("base"), self._fetched_to(request.branch)))
            carried |= {name: it for name, it in wanted.items() if it and it != before[name] == now[name]}
        return carried

    # What is made

    def create(
        self, branch: str, content: bytes, changes: Sequence[pin.Change], older: Sequence[PullRequest]
    ) -> PullRequest:
        """Push a branch of that name, and open its pull request; or find the one that another has opened meanwhile."""
        title = f"Pin {', '.join(change.image for change in changes)} of {self.cluster}"
        commit = self._commit(content, title)
        # By force: what is there under this name has no pull request, or somebody has changed it.
        self._git(*_AS_GH, "push", "--quiet", "--force", "origin", f"{commit}:refs/heads/{branch}")
        where = ("--head", branch, "--base", self.revision)
        try:
            self._gh("create", *where, "--title", title, "--body-file", "-", text=self._body(changes, older))
        except programs.ProgramFailed:
            if not _on(branch, self.open_requests()):
                raise
        request = _on(branch, self.open_requests())
        if request is None:
            raise UsageError(f"the pull request of {branch} was closed at once: open it again, or pin again")
        if os.environ.get("GITHUB_ACTIONS"):  # a workflow's own token starts no checks by its pull requests
            programs.run("gh", "workflow", "run", "ci.yaml", "--repo", self.repository, "--ref", branch)
        return request

    def close(self, requests: Sequence[PullRequest], said: str) -> None:
        """Close pull requests, with a comment, and remove their branches."""
        for request in requests:
            self._gh("close", str(request.number), "--comment", said, "--delete-branch")

    def _commit(self, content: bytes, message: str) -> str:
        """A commit of the file alone, on top of the branch that Argo CD follows."""
        base = self._ref("base")
        blob = self._git("hash-object", "-w", "--stdin", text=content.decode())
        index = {
            "GIT_INDEX_FILE": self._git(
                "rev-parse", "--path-format=absolute", "--git-path", f"darkroom-pin-{self.cluster}"
            )
        }
        self._git("read-tree", base, env=index)
        self._git("update-index", "--cacheinfo", f"100644,{blob},{self.path.as_posix()}", env=index)
        tree = self._git("write-tree", env=index)
        Path(index["GIT_INDEX_FILE"]).unlink()
        who = (f"{name}={self._git('config', '--default', bot, '--get', name)}" for name, bot in _BOT.items())
        options = [part for setting in who for part in ("-c", setting)]
        return self._git(*options, "commit-tree", tree, "-p", base, "-m", message)

    def _body(self, changes: Sequence[pin.Change], older: Sequence[PullRequest]) -> str:
        lines = ["`darkroom pin` wrote this. The registry has these digests, and their signatures verify."]
        if older:
            lines += ["", f"Supersedes {', '.join(f'#{it.number}' for it in older)}, and has their pins, too."]
        return "\n".join([*lines, "", *(self._described(change) for change in changes)])

    def _described(self, change: pin.Change) -> str:
        lines = [
            f"### {change.image}",
            f"- from `{change.old or 'nothing'}`",
            f"- to `{change.new}`",
            f"- tag of the sources that asked for it: `{source_tag(IMAGES[change.image], self.root)}`",
        ]
        if commits := self._commits_since(change):
            lines += ["", "Commits to its sources since the old digest was pinned:", "", "~~~~", commits, "~~~~"]
        return "\n".join([*lines, ""])

    def _commits_since(self, change: pin.Change) -> str:
        """One line each, the newest first; empty if there are none, or it is not known when that was."""
        base, image = self._ref("base"), IMAGES[change.image]
        log = ("log", f"--max-count={_MAX_COMMITS}", "--format=%h %s")
        digest = change.old.partition("@")[2]
        then = digest and self._git("log", "-1", "--format=%H", f"-S{digest}", base, "--", self.path.as_posix())
        return then and self._git(*log, f"{then}..{base}", "--", image.dockerfile, *image.paths)

    def _images(self, commit: str) -> dict[str, str]:
        return pin.images_in(self.path, self._file(commit))

    def _file(self, commit: str) -> bytes:
        return programs.run("git", "-C", str(self.root), "show", f"{commit}:{self.path.as_posix()}").encode()

    def _fetched_to(self, branch: str) -> str:
        return self._ref(branch.replace(f"pin/{self.cluster}/", "pin/"))

    def _ref(self, name: str) -> str:
        """Where things are fetched to: no branch of the user's, and no other cluster's."""
        return f"refs/darkroom/{self.cluster}/{name}"

    def _git(self, *arguments: str, text: str | None = None, env: Mapping[str, str] | None = None) -> str:
        return programs.run("git", "-C", str(self.root), *arguments, text=text, env=env).strip()

    def _gh(self, verb: str, *arguments: str, text: str | None = None) -> str:
        return programs.run("gh", "pr", verb, "--repo", self.repository, *arguments, text=text)
