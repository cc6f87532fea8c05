"""An OCI registry on loopback, and what is moved of the images in it."""

import json
from dataclasses import dataclass

from darkroom.images import IMAGES, source_tag
from tests.e2e.images.engine import ROOT, BuiltImage, docker
from tests.e2e.pins import crane


@dataclass(frozen=True)
class Registry:
    """A registry by its host and port."""

    host: str

    def push(self, name: str, image: BuiltImage, tag: str | None = None) -> str:
        """Push one of our images by the tag of its sources, or another; its reference by digest."""
        repository = f"{self.host}/darkroom/{name}"
        tagged = f"{repository}:{tag or source_tag(IMAGES[name], ROOT)}"
        docker("tag", image.reference, tagged)
        try:
            docker("push", "--quiet", tagged)
        finally:
            docker("rmi", "--no-prune", tagged)
        return f"{repository}@{crane('digest', tagged)}"


def layers(reference: str) -> dict[str, int]:
    """The layers of an image from the base upwards: what is moved of each, in bytes, by its digest."""
    manifest = json.loads(crane("manifest", reference))
    return {layer["digest"]: int(layer["size"]) for layer in manifest["layers"]}
