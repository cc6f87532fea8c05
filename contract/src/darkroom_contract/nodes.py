"""The nodes that runtimes run on, which Karpenter starts and ends: ``gpuNodes`` in a cluster's description. Pure."""

from operator import attrgetter
from typing import Annotated, Self

from pydantic import Field, model_validator

from darkroom_contract.gpus import GPUS_PER_MACHINE, Capacity, Gpu
from darkroom_contract.rules import aws_id, within
from darkroom_contract.types import Description, distinct


class GpuPool(Description):
    """Nodes with one class of GPU, which Karpenter starts and ends."""

    gpu: Gpu
    """The class of GPU. A cluster has one pool for a class."""
    capacity: Capacity = Capacity.ANY
    """How the nodes are bought: Spot where there is some and On-Demand otherwise (``any``, when absent), or one of
    them alone."""
    max_gpus: Annotated[int, Field(ge=1, le=1000)] = 8
    """The most GPUs that all its nodes have together: what it may cost at most. 1 to 1000, of ``p4d`` in eights; 8 when
    absent."""

    @model_validator(mode="after")
    def _buys_whole_machines(self) -> Self:
        of_one = GPUS_PER_MACHINE[self.gpu]
        if self.max_gpus % of_one:
            fewer = self.max_gpus - self.max_gpus % of_one
            instead = " or ".join(str(number) for number in (fewer, fewer + of_one) if number)
            raise within(
                "maxGpus",
                f"a machine of {self.gpu} has {of_one} GPUs, and those beyond a multiple of {of_one} are never bought: "
                f"make it {instead}",
            )
        return self


class GpuNodes(Description):
    """The nodes that runtimes run on."""

    pools: Annotated[
        tuple[GpuPool, ...],
        Field(min_length=1, max_length=len(Gpu)),
        distinct("two pools have the same gpu; one pool has both Spot and On-Demand", attrgetter("gpu")),
    ] = (GpuPool(gpu=Gpu.G5),)
    """One for each class of GPU that runtimes ask for: one of ``g5`` when absent."""
    raid0: bool = True
    """Whether images and the cache of models are on the instance's own disks, joined into one: the fastest. True when
    absent."""
    image_snapshot_id: Annotated[str, aws_id("snap", "a snapshot")] | None = None
    """An EBS snapshot of Bottlerocket's data volume with the images in it, in the cluster's region; needs
    ``raid0: false``."""

    @model_validator(mode="after")
    def _images_are_in_one_place(self) -> Self:
        if self.raid0 and self.image_snapshot_id is not None:
            raise within(
                "imageSnapshotId",
                "with raid0 the images are on the instance's own disks, and the snapshot's volume is not looked at: "
                "set raid0: false, or leave imageSnapshotId out",
            )
        return self
