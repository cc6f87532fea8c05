"""The files of one cluster, ``clusters/<cluster>/``, and the rules for them. It reads them, and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from darkroom.documents import Document, Finding, Unreadable, read, validate
from darkroom_contract.cluster import MAX_RUNTIMES, Cluster, Images
from darkroom_contract.rules import LABEL
from darkroom_contract.runtime import Runtime
from darkroom_contract.schemas import ClusterFile, ImagesFile, RuntimeFile, WorkflowsFile
from darkroom_contract.types import Engine, Model, RuntimeName
from darkroom_contract.workflows import Workflow, check_sizes

_File = TypeVar("_File", bound=Model)
_NAME: TypeAdapter[str] = TypeAdapter(RuntimeName)


class ClusterFileError(Exception):
    """Files are missing or wrong; it has the ``findings``, and its message a line for each."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = findings
        super().__init__("\n".join(map(str, findings)))


@dataclass(frozen=True)
class ClusterFiles:
    """A cluster and its runtimes by name, in the order of their names."""

    cluster: Cluster
    runtimes: dict[str, Runtime]
    images: Images = field(default_factory=Images)
    #: By runtime, for those that have any.
    workflows: dict[str, dict[str, Workflow]] = field(default_factory=dict)


def load_cluster(folder: Path) -> ClusterFiles:
    """Read a cluster's folder; raises ``ClusterFileError``."""
    files, findings = check_cluster(folder)
    if files is None:
        raise ClusterFileError([finding for finding in findings if finding.is_error])
    return files


def check_cluster(folder: Path) -> tuple[ClusterFiles | None, list[Finding]]:
    """Read a cluster's folder: what it says, if nothing is wrong with it, and everything that there is to say of it.

    It raises nothing, whatever is in the folder.
    """
    reading = _Reading(folder)
    files = reading.whole()
    findings = sorted(reading.findings)
    return (None if any(finding.is_error for finding in findings) else files), findings


@dataclass
class _Reading:
    """Reads a cluster's folder and collects what is wrong in it."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)

    def whole(self) -> ClusterFiles | None:
        cluster = self._cluster(self.folder / "cluster.yaml")
        images = self._images(self.folder / "images.yaml")
        folders = list(self._named_folders(self.folder / "runtimes"))
        runtimes = {path.name: read for path in folders if (read := self._runtime(path / "runtime.yaml"))}
        workflows = {path.name: self._workflows(path / "workflows", runtimes.get(path.name)) for path in folders}
        if len(folders) > MAX_RUNTIMES:
            words = (
                f"{len(folders)} runtimes; a cluster has at most {MAX_RUNTIMES}, since SNS takes no more filters for a "
                "topic: move some to another cluster"
            )
            self._error(self.folder / "runtimes", words)
        self._check_defaults(runtimes)
        if cluster is None:
            return None
        for runtime in runtimes.values():
            self.findings += _without_nodes(cluster, *runtime)
        named = {name: each for name, each in workflows.items() if each}
        return ClusterFiles(cluster, {name: runtime for name, (_, runtime) in runtimes.items()}, images, named)

    def _cluster(self, path: Path) -> Cluster | None:
        document, file = self._load(path, ClusterFile)
        # By its resolved path: the folder may be given as "." or with ".." at its end.
        if document and file and file.cluster.name != (name := self.folder.resolve().name):
            self.findings.append(document.finding(("cluster", "name"), f"it has to be the folder's name, {name}"))
        return file.cluster if file else None

    def _images(self, path: Path) -> Images:
        if not path.exists():
            return Images()
        document, file = self._load(path, ImagesFile)
        if not document or not file:
            return Images()
        if empty := [name for name, image in file.images if not image]:
            words = (
                f"empty: {', '.join(empty)}; what needs them is not synced before continuous integration fills them in"
            )
            self.findings.append(document.finding(("images",), words, is_error=False))
        return file.images

    def _runtime(self, path: Path) -> tuple[Document, Runtime] | None:
        document, file = self._load(path, RuntimeFile)
        return (document, file.runtime) if document and file else None

    def _workflows(self, folder: Path, runtime: tuple[Document, Runtime] | None) -> dict[str, Workflow]:
        workflows: dict[str, Workflow] = {}
        for path in self._entries(folder):
            if path.suffix == ".yml":
                self._error(path, f"it is not read: call it {path.stem}.yaml")
            if path.suffix != ".yaml":
                continue
            document, file = self._load(path, WorkflowsFile)
            if not document or not file:
                continue
            if list(file.workflows) != [path.stem]:
                words = f"it has one workflow, which is called as the file: {path.stem}"
                self.findings.append(document.finding(("workflows",), words))
            if runtime and runtime[1].engine is not Engine.COMFYUI:
                self._error(path, "only ComfyUI has workflows: remove the file, or set runtime.engine to comfyui")
            workflows |= file.workflows
        try:
            check_sizes(workflows.values())
        except ValueError as error:
            self._error(folder, f"{error}: make them smaller, or move some to another runtime")
        return workflows

    def _named_folders(self, parent: Path) -> Iterator[Path]:
        """The folders of the runtimes: a folder that begins with a dot is none, as Argo CD has it."""
        for path in self._entries(parent):
            if path.name.startswith(".") or not path.is_dir():
                continue
            try:
                _NAME.validate_python(path.name)
            except ValidationError:
                self._error(path, f"a runtime's folder is named by {LABEL.words}: rename it")
            yield path

    def _entries(self, folder: Path) -> list[Path]:
        try:
            return sorted(folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            self._error(folder, f"it has to be a folder: {error.strerror}")
            return []

    def _check_defaults(self, runtimes: dict[str, tuple[Document, Runtime]]) -> None:
        """A v1alpha1 request names a checkpoint alone, so no two runtimes may be meant by it."""
        defaults: dict[str, Document] = {}
        for document, runtime in runtimes.values():
            if runtime.checkpoint is None or not runtime.default_for_checkpoint:
                continue
            first = defaults.setdefault(runtime.checkpoint, document)
            if first is not document:
                words = (
                    f"{first.path} is the default for {runtime.checkpoint}, too: set runtime.defaultForCheckpoint to "
                    "false in one of them"
                )
                self.findings.append(document.finding(("runtime", "checkpoint"), words))

    def _load(self, path: Path, model: type[_File]) -> tuple[Document | None, _File | None]:
        try:
            document = read(path)
        except Unreadable as error:
            self.findings.append(error.finding)
            return None, None
        file, findings = validate(document, model)
        self.findings += findings
        return document, file

    def _error(self, path: Path, words: str) -> None:
        self.findings.append(Finding(path, 1, "", words))


def _without_nodes(cluster: Cluster, document: Document, runtime: Runtime) -> Iterator[Finding]:
    """What a runtime asks of nodes that the cluster does not have."""
    pools = {pool.gpu: pool for pool in cluster.gpu_nodes.pools}
    pool = pools.get(runtime.gpu)
    if pool is None:
        words = (
            f"the cluster has no pool of {runtime.gpu}: add one to cluster.gpuNodes.pools in cluster.yaml, or take one "
            f"of {', '.join(pools)}"
        )
        yield document.finding(("runtime", "gpu"), words)
    elif not runtime.capacity.meets(pool.capacity):
        words = (
            f"the cluster's pool of {runtime.gpu} is {pool.capacity} alone: take that, or make the pool's capacity any"
        )
        yield document.finding(("runtime", "capacity"), words)
    elif runtime.scaling.max_pods > pool.max_gpus:
        words = f"the cluster's pool of {runtime.gpu} has {pool.max_gpus} GPUs at most, so that there are never so many"
        yield document.finding(("runtime", "scaling", "maxPods"), words, is_error=False)
