"""The repository and the images: what is here is what Argo CD will read, and all that it names is built and pinned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from darkroom import images, pin, pin_request, programs, registry
from darkroom.bootstrap.steps import ActRequired, Context
from darkroom.documents import parse, validate
from darkroom_contract.cluster import Images
from darkroom_contract.schemas import ImagesFile

_CLUSTER, _IMAGES = "cluster.yaml", "images.yaml"


@dataclass(frozen=True)
class Pushed:
    """The cluster's description is on the branch that Argo CD follows, as it is here."""

    context: Context
    title = "The cluster's files on the branch that Argo CD follows"

    def is_done(self) -> bool:
        """Whether both are the same."""
        here = (self.context.folder / _CLUSTER).read_text()
        return _followed(self.context, _CLUSTER) == here

    def do(self) -> None:
        """A person pushes: raises ``ActRequired``."""
        gitops, folder = self.context.gitops, self.context.folder
        raise ActRequired(
            f"Argo CD reads {folder}/{_CLUSTER} from the branch {gitops.revision} of {gitops.repository}, and there it "
            f"is another, or none. Look it over, and bring it there, by a pull request where the branch is protected:\n"
            f"  darkroom validate {folder}\n  git add {folder} && git commit -m 'Cluster {self.context.cluster.name}'\n"
            f"  git push origin HEAD:{gitops.revision}"
        )

    def undo(self) -> None:
        """The files stay: they are the cluster's history."""


@dataclass(frozen=True)
class Pins:
    """Every image that the cluster needs has its digest in ``images.yaml``, on the branch that Argo CD follows."""

    context: Context
    title = "The images' digests"

    def is_done(self) -> bool:
        """Whether none is missing there."""
        return not list(self._unpinned())

    def do(self) -> None:
        """Wait for the builds, and ask for the pins by a pull request; raises ``ActRequired`` until it is merged."""
        context, cluster = self.context, self.context.cluster
        if context.gitops.github is None:
            raise ActRequired(
                f"{', '.join(self._unpinned())}: build these images, sign them, push them to {cluster.names.registry}, "
                f"and\n  darkroom pin {context.folder} --key cosign.pub\nThen push {context.folder}/{_IMAGES}"
            )
        wanted = {name: images.reference(images.IMAGES[name], cluster, context.root) for name in self._unpinned()}
        context.wait("GitHub builds the images", _Builds(context, wanted).are_there)
        repositories = pin.Repositories(cluster)
        built = pin.built(repositories, context.root).references
        proposal = pin_request.propose(context.folder, built, repositories, pin.keyless(cluster))
        raise ActRequired(f"the images are built, and their digests are in a pull request: merge {proposal.url}")

    def undo(self) -> None:
        """They stay: they are the cluster's history."""

    def _unpinned(self) -> Iterator[str]:
        text = _followed(self.context, _IMAGES)
        path = self.context.folder / _IMAGES
        file, _ = validate(parse(path, text.encode()), ImagesFile) if text else (None, [])
        pinned = file.images if file else Images()
        for name in needed(self.context):
            if not getattr(pinned, name):
                yield name


@dataclass
class _Builds:
    """Images that are being built, by their names; what is missing is said whenever that changes."""

    context: Context
    wanted: Mapping[str, str]
    said: list[str] | None = None

    def are_there(self) -> bool:
        missing = [name for name, reference in self.wanted.items() if registry.digest_of(reference) is None]
        if missing and missing != self.said:
            self.context.say(f"not built yet: {', '.join(missing)}; gh run watch shows how far they are")
        self.said = missing
        return not missing


def needed(context: Context) -> list[str]:
    """The images that run in a cluster: those of the platform, and the engines of its runtimes."""
    engines = {it.engine.value for it in context.files.runtimes.values() if it.image is None}
    return ["agent", "api", "function", *sorted(engines)]


def _followed(context: Context, name: str) -> str | None:
    """One of the cluster's files, as it is on the branch that Argo CD follows; None where it is not.

    The user's git asks, with the user's credentials.
    """
    git = ("git", "-C", str(context.root))
    programs.run(*git, "fetch", "--quiet", "--no-tags", context.gitops.repository, context.gitops.revision)
    path = (context.folder.resolve() / name).relative_to(context.root)
    if not programs.run(*git, "ls-tree", "--name-only", "FETCH_HEAD", "--", str(path)).strip():
        return None
    return programs.run(*git, "show", f"FETCH_HEAD:{path}")
