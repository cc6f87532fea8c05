"""Golden cases: a folder each, with the composite, what is observed, and what is expected.

- ``composite.yaml``: the composite, and the ``reason`` why the case is there
- ``observed/<key>.yaml``: an observed resource (as much of it as matters)
- ``expected.yaml``: ``ready``; ``resources``, the keys of all that is wanted, in order; ``contains``, what must be in
  some of them (policies and other JSON texts are written as YAML); ``status``, what must be in the composite's

A new case is a new folder, with the parts that it is about named in ``contains`` without a value (``queue: {spec:
{forProvider:}}``). ``python -m tests.compositions.cases`` fills in and renews the values of all cases: read the diff.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darkroom_function.compositions import compose
from darkroom_function.managed import Composed
from tests.compositions.provider import parsed

_ROOT = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def composite(self) -> dict[str, Any]:
        return _load(self.folder / "composite.yaml")

    @property
    def expected(self) -> dict[str, Any]:
        return _load(self.folder / "expected.yaml")

    @property
    def observed(self) -> dict[str, Any]:
        return {path.stem: _load(path) for path in (self.folder / "observed").glob("*.yaml")}

    def composed(self) -> Composed[Any]:
        return compose(self.composite["kind"], self.composite["spec"], self.observed)

    def actual(self) -> dict[str, Any]:
        """What is wanted, cut to the shape of what is expected."""
        composed, expected = self.composed(), self.expected
        manifests = {key: parsed(entry.resource.manifest()) for key, entry in composed.resources.items()}
        status = composed.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {
            "ready": composed.ready,
            "resources": list(composed.resources),
            "contains": _cut(manifests, expected.get("contains", {})),
            "status": _cut(status, expected.get("status", {})),
        }

    def renew(self) -> None:
        text = yaml.safe_dump(self.actual(), sort_keys=False, width=120)
        (self.folder / "expected.yaml").write_text(text)


def cases() -> list[Case]:
    return [Case(folder) for folder in sorted(_ROOT.iterdir())]


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return loaded


def _cut(value: Any, shape: Any) -> Any:
    if isinstance(shape, dict) and isinstance(value, dict):
        return {key: _cut(value[key], inner) for key, inner in shape.items()}
    return value


if __name__ == "__main__":
    for case in cases():
        case.renew()
