"""The files of one cluster, ``clusters/<cluster>/``, and the rules for them. It reads them, and nothing else."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from darkroom import strays
from darkroom.documents import Document, Finding, Unreadable, read, said_in, validate
from darkroom.trouble import Trouble
from darkroom_contract.cluster import MAX_RUNTIMES, Cluster, Images
from darkroom_contract.gitops import GitOps
from darkroom_contract.gpus import MACHINES
from darkroom_contract.rules import LABEL
from darkroom_contract.runtime import Runtime
from darkroom_contract.schemas import ClusterFile, ImagesFile, RuntimeFile, WorkflowsFile
from darkroom_contract.types import Engine, Model, RuntimeName
from darkroom_contract.workflows import Workflow, check_sizes, refused_nodes

#: The tag, in AWS, that says which cluster something was made for.
CLUSTER_TAG = "darkroom.dev/cluster"
#: The folder of the cluster to copy, and what its file has in place of one's own.
EXAMPLE = "example"
_EXAMPLE_ACCOUNT = "111122223333"
#: RFC 2606, section 3.
_EXAMPLE_HOST = re.compile(r"[/@.]example\.(com|net|org)([:/]|$)")

DEFAULT_REVISION: str = GitOps.model_fields["revision"].default
_File = TypeVar("_File", bound=Model)
_NAME: TypeAdapter[str] = TypeAdapter(RuntimeName)


class ClusterFileError(Trouble):
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


def followed_revision(folder: Path) -> str:
    """The branch (or tag, or commit) that Argo CD keeps the cluster by; the usual one, if the files do not say it."""
    file = said_in(folder / "cluster.yaml", ClusterFile)
    return file.cluster.gitops.revision if file and file.cluster.gitops else DEFAULT_REVISION


@dataclass
class _Reading:
    """Reads a cluster's folder and collects what is wrong in it."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)

    def whole(self) -> ClusterFiles | None:
        document, cluster = self._cluster(self.folder / "cluster.yaml")
        images = self._images(self.folder / "images.yaml", cluster)
        self._check_eks(self.folder / "eksctl.yaml", cluster)
        if self.folder.is_dir():
            self.findings += strays.in_cluster(self._entries(self.folder))
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
        if document is None or cluster is None:
            return None
        for runtime in runtimes.values():
            self.findings += [*_without_nodes(cluster, *runtime), *_without_room(*runtime)]
        self.findings += _filters_nothing(document, cluster, [path.name for path in folders])
        named = {name: each for name, each in workflows.items() if each}
        return ClusterFiles(cluster, {name: runtime for name, (_, runtime) in runtimes.items()}, images, named)

    def _cluster(self, path: Path) -> tuple[Document | None, Cluster | None]:
        if not self.folder.exists():
            words = f"there is no such folder: name one under clusters/, or copy clusters/{EXAMPLE} to begin one"
            self._error(self.folder, words)
            return None, None
        document, file = self._load(path, ClusterFile)
        # By its resolved path: the folder may be given as "." or with ".." at its end.
        if document and file and file.cluster.name != (name := self.folder.resolve().name):
            self.findings.append(document.finding(("cluster", "name"), f"it has to be the folder's name, {name}"))
        if document and file and self.folder.resolve().name != EXAMPLE and not file.cluster.emulator:
            self.findings += _of_the_example(document, file.cluster)
        return document, file.cluster if file else None

    def _images(self, path: Path, cluster: Cluster | None) -> Images:
        if not path.exists():
            if cluster and cluster.gitops:
                self._error(path, "there is no such file, and Argo CD needs it: copy clusters/example/images.yaml")
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

    def _check_eks(self, path: Path, cluster: Cluster | None) -> None:
        """Whether the file that the EKS cluster is made by is about the same cluster; eksctl checks the rest of it."""
        if cluster is None or cluster.emulator or not path.exists():
            return
        try:
            document = read(path)
        except Unreadable as error:
            self.findings.append(error.finding)
            return
        for place, wanted, name in (
            (("metadata", "name"), cluster.eks_name, "eksName"),
            (("metadata", "region"), cluster.region, "region"),
            (("metadata", "tags", CLUSTER_TAG), cluster.name, "name"),
        ):
            if _at(document.value, place) != wanted:
                words = f"it has to be {wanted}, as cluster.{name} in cluster.yaml"
                self.findings.append(document.finding(place, words))

    def _runtime(self, path: Path) -> tuple[Document, Runtime] | None:
        document, file = self._load(path, RuntimeFile)
        return (document, file.runtime) if document and file else None

    def _workflows(self, folder: Path, runtime: tuple[Document, Runtime] | None) -> dict[str, Workflow]:
        workflows: dict[str, Workflow] = {}
        entries = self._entries(folder)
        self.findings += strays.in_workflows(entries)
        for path in (entry for entry in entries if entry.suffix == ".yaml"):
            document, file = self._load(path, WorkflowsFile)
            if not document or not file:
                continue
            if list(file.workflows) != [path.stem]:
                words = f"it has one workflow, which is called as the file: {path.stem}"
                self.findings.append(document.finding(("workflows",), words))
            if runtime and runtime[1].engine is not Engine.COMFYUI:
                self._error(path, "only ComfyUI has workflows: remove the file, or set runtime.engine to comfyui")
            if runtime:
                self.findings += (document.finding(*refused) for refused in refused_nodes(file.workflows, runtime[1]))
            workflows |= file.workflows
        try:
            check_sizes(workflows.values())
        except ValueError as error:
            self._error(folder, f"{error}: make them smaller, or move some to another runtime")
        return workflows

    def _named_folders(self, parent: Path) -> Iterator[Path]:
        """The folders of the runtimes: a folder that begins with a dot is none, as Argo CD has it."""
        entries = self._entries(parent)
        self.findings += strays.in_runtimes(entries)
        for path in entries:
            if path.name.startswith(".") or not path.is_dir():
                continue
            self.findings += strays.in_runtime(self._entries(path))
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
        if model is WorkflowsFile and (finding := _bare_graph(document)):
            self.findings.append(finding)
            return document, None
        file, findings = validate(document, model)
        self.findings += findings
        return document, file

    def _error(self, path: Path, words: str) -> None:
        self.findings.append(Finding(path, 1, "", words))


def _at(value: Any, place: Sequence[str]) -> Any:
    """What is at a place in nested mappings, or None."""
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _of_the_example(document: Document, cluster: Cluster) -> Iterator[Finding]:
    """What was left as it is in the cluster to copy."""
    for place, is_left, right in (
        (("account",), cluster.account == _EXAMPLE_ACCOUNT, "the AWS account's own number"),
        (("eksName",), cluster.eks_name == EXAMPLE, "the EKS cluster's own name"),
        (
            ("gitops", "repository"),
            bool(cluster.gitops and _EXAMPLE_HOST.search(cluster.gitops.repository)),
            "the repository that Argo CD clones, your fork",
        ),
    ):
        if is_left:
            yield document.finding(("cluster", *place), f"it is still as in clusters/{EXAMPLE}: say {right}")


def _filters_nothing(document: Document, cluster: Cluster, runtimes: Sequence[str]) -> Iterator[Finding]:
    """A filter may name a runtime that is still to come, or its name may be mistyped."""
    for index, subscriber in enumerate(cluster.subscribers):
        for number, name in enumerate(subscriber.filter.runtime):
            if name not in runtimes:
                words = f"the cluster has no runtime {name}; there are {', '.join(runtimes) or 'none'}"
                place = ("cluster", "subscribers", index, "filter", "runtime", number)
                yield document.finding(place, words, is_error=False)


def _bare_graph(document: Document) -> Finding | None:
    """A workflow as ComfyUI exports it, which is only a part of the file."""
    file, name = document.value, document.path.stem
    if not isinstance(file, dict):
        return None
    if {"nodes", "links"} <= file.keys():
        words = "this is the editor's file: take that of ComfyUI's menu Export (API), and put it"
        return document.finding((), f"{words} under workflows.{name}.graph")
    named = file.get("workflows")
    for place, graph in (
        ((), file),
        (("workflows",), named),
        (("workflows", name), named.get(name) if isinstance(named, dict) else None),
    ):
        if isinstance(graph, dict) and graph and all(isinstance(n, dict) and "class_type" in n for n in graph.values()):
            return document.finding(place, f"this is a graph alone: put it under workflows.{name}.graph")
    return None


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


def _without_room(document: Document, runtime: Runtime) -> Iterator[Finding]:
    """What an engine asks of a machine that has to run more than the engine."""
    asked, machines = runtime.resources, MACHINES[runtime.gpu]
    fitting = (each for each in machines if asked.cores <= each.cpus and asked.memory_gib <= each.memory_gib)
    machine = next(fitting, machines[-1])
    larger = machines[machines.index(machine) + 1 :]
    for name, given, most, whole, unit in (
        ("cpu", asked.cores, machine.engine_cpus, f"{machine.cpus}", ""),
        ("memory", asked.memory_gib, machine.engine_memory_gib, f"{machine.memory_gib}Gi", "Gi"),
    ):
        if given > most:
            or_more = f", or more than {whole} for a larger machine" if larger else ""
            words = (
                f"a machine of {runtime.gpu} with {whole} for each GPU has no room then for what else runs there, "
                f"Mountpoint above all: ask for at most {most:g}{unit}{or_more}"
            )
            yield document.finding(("runtime", "resources", name), words)
