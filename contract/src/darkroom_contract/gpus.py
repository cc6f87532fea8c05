"""The GPU classes that runtimes choose from, and how their nodes are bought. Pure.

What a pod asks for on a class is in ``apps/sd-runtime/gpus.yaml``, which instances make it up in ``apps/gpu-nodes``.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Gpu(StrEnum):
    """A GPU class: the EC2 instance families that share a GPU model. Its pool of nodes is called ``gpu-<class>``."""

    G4DN = "g4dn"
    G5 = "g5"
    G6 = "g6"
    G6E = "g6e"
    P4D = "p4d"
    P5 = "p5"


#: How many GPUs the machines of a class have. Of p4d there are none with fewer than eight, of the others those with one
#: alone are bought.
GPUS_PER_MACHINE = MappingProxyType({gpu: 8 if gpu is Gpu.P4D else 1 for gpu in Gpu})


class Machine(NamedTuple):
    """What a machine has for each of its GPUs, and how much of it an engine may ask for.

    The rest is for what runs beside it: the kubelet, the agent, the daemons, and Mountpoint, of whose pod Karpenter
    does not know when it chooses the machine.
    """

    cpus: int
    memory_gib: int
    engine_cpus: float
    engine_memory_gib: int


_XLARGE, _2XLARGE = Machine(4, 16, 3, 12), Machine(8, 32, 7, 25)
_4XLARGE, _8XLARGE = Machine(16, 64, 15, 54), Machine(32, 128, 31, 112)

#: The machines of a class, the smallest first: those of ``apps/gpu-nodes/instance-types.yaml``, as far as they differ.
MACHINES = MappingProxyType(
    {
        Gpu.G4DN: (_XLARGE, _2XLARGE, _4XLARGE, _8XLARGE),
        Gpu.G5: (_XLARGE, _2XLARGE, _4XLARGE, _8XLARGE),
        Gpu.G6: (_XLARGE, _2XLARGE, _4XLARGE, _8XLARGE),
        Gpu.G6E: (Machine(4, 32, 3, 26), Machine(8, 64, 7, 54), Machine(16, 128, 15, 112), Machine(32, 256, 31, 230)),
        Gpu.P4D: (Machine(12, 144, 11.5, 128),),
        Gpu.P5: (Machine(16, 256, 15, 230),),
    }
)


class Capacity(StrEnum):
    """How EC2 sells the nodes: Spot where there is some and On-Demand otherwise, or one of them alone."""

    ANY = "any"
    SPOT = "spot"
    ON_DEMAND = "on-demand"

    def meets(self, other: "Capacity") -> bool:
        """Whether nodes that are bought in the one way may serve what asks for the other."""
        return self is other or Capacity.ANY in {self, other}
