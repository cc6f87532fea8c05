"""The colours that words can give to things and to the backdrop: red, green and blue from 0 to 1."""

from types import MappingProxyType

COLOURS = MappingProxyType(
    {
        "red": (0.87, 0.16, 0.18),
        "orange": (0.96, 0.51, 0.13),
        "yellow": (0.98, 0.80, 0.18),
        "green": (0.25, 0.68, 0.30),
        "blue": (0.16, 0.45, 0.87),
        "purple": (0.55, 0.30, 0.78),
        "pink": (0.97, 0.50, 0.70),
        "brown": (0.50, 0.31, 0.19),
        "black": (0.13, 0.13, 0.15),
        "white": (0.93, 0.94, 0.95),
        "grey": (0.56, 0.58, 0.60),
    }
)
