"""The volumes of a pod as folders of the machine. It touches the pod's own folder, and reads the API server."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.kubelet.environment import field
from tests.e2e.kubelet.errors import NotStarted, Unsupported
from tests.e2e.kubelet.isolation import Mount
from tests.e2e.kubelet.objects import Object, Objects

_FILE_MODE = 0o644


class Volumes:
    """The volumes of one pod. Their sizes are not limited, and their files stay as they were when the pod started."""

    def __init__(self, folder: Path, objects: Objects, claims: Mapping[str, Path]) -> None:
        self._folder = folder
        self._objects = objects
        self._claims = claims
        self._places: dict[str, tuple[Path, bool]] = {}

    def make(self, pod: Object) -> None:
        """Make all of them; raises ``NotStarted`` when something is missing that they refer to, or ``Unsupported``."""
        for volume in pod["spec"].get("volumes", ()):
            place = self._folder / volume["name"]
            if "emptyDir" in volume:
                _make_empty(place, pod["spec"].get("securityContext", {}).get("fsGroup"))
                self._places[volume["name"]] = place, False
            elif "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]
                if claim["claimName"] not in self._claims:
                    raise NotStarted("ContainerCreating", f'persistentvolumeclaim "{claim["claimName"]}" not found')
                self._places[volume["name"]] = self._claims[claim["claimName"]], claim.get("readOnly", False)
            else:
                self._write(volume, pod, place)
                self._places[volume["name"]] = place, True

    def mounts(self, container: Object) -> list[Mount]:
        """Where a container has them."""
        return [self._mount(entry) for entry in container.get("volumeMounts", ())]

    def remove(self) -> None:
        """Remove what is the pod's own."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mount(self, entry: Object) -> Mount:
        place, read_only = self._places[entry["name"]]
        if "subPathExpr" in entry:
            raise Unsupported(f"subPathExpr of volume {entry['name']}")
        source = place / entry.get("subPath", "")
        if not source.exists():
            if read_only:
                raise NotStarted("CreateContainerConfigError", f"volume {entry['name']} has no {entry['subPath']}")
            source.mkdir(parents=True)
        return Mount(source, entry["mountPath"], read_only or entry.get("readOnly", False))

    def _write(self, volume: Object, pod: Object, place: Path) -> None:
        projected = volume.get("projected", {"sources": [volume]})
        (content_of,) = (value for key, value in volume.items() if key != "name")
        default = content_of.get("defaultMode", _FILE_MODE)
        for source in projected["sources"]:
            for path, content, mode in self._files(source, pod):
                target = place / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(mode or default)
        place.mkdir(parents=True, exist_ok=True)

    def _files(self, source: Object, pod: Object) -> list[tuple[str, bytes, int | None]]:
        if "downwardAPI" in source:
            items = source["downwardAPI"].get("items", ())
            return [
                (item["path"], field(item["fieldRef"]["fieldPath"], pod).encode(), item.get("mode")) for item in items
            ]
        if "serviceAccountToken" in source:
            wanted = source["serviceAccountToken"]
            token = self._objects.token(pod, wanted.get("audience"), wanted.get("expirationSeconds", 3600))
            return [(wanted["path"], token, None)]
        for kind, key, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if key in source:
                reference = source[key]
                wanted_name = reference.get(name) or reference["name"]
                optional = reference.get("optional", False)
                values = self._objects.files(kind, pod["metadata"]["namespace"], wanted_name, optional=optional)
                return _chosen(values, reference)
        raise Unsupported(f"a volume of {', '.join(key for key in source if key != 'name')}")


def _chosen(values: Mapping[str, bytes], reference: Object) -> list[tuple[str, bytes, int | None]]:
    """All keys as files, or those that ``items`` names."""
    if "items" not in reference:
        return [(key, value, None) for key, value in values.items()]
    return [
        (item["path"], values[item["key"]], item.get("mode")) for item in reference["items"] if item["key"] in values
    ]


def _make_empty(place: Path, group: int | None) -> None:
    place.mkdir(parents=True, exist_ok=True)
    if group is not None:
        os.chown(place, -1, group)
    place.chmod(0o777 if group is None else 0o2777)
