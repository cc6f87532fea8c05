"""The GPU classes that runtimes choose from, and how their nodes are bought. Pure.

What a pod asks for on a class is in ``apps/sd-runtime/gpus.yaml``, which instances make it up in ``apps/gpu-nodes``.
"""

from enum import StrEnum
from types import MappingProxyType


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


class Capacity(StrEnum):
    """How EC2 sells the nodes: Spot where there is some and On-Demand otherwise, or one of them alone."""

    ANY = "any"
    SPOT = "spot"
    ON_DEMAND = "on-demand"

    def meets(self, other: "Capacity") -> bool:
        """Whether nodes that are bought in the one way may serve what asks for the other."""
        return self is other or Capacity.ANY in {self, other}
