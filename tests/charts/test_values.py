"""What is checked before a push is what Helm reads after it."""

import json
from pathlib import Path

from darkroom.documents import parse
from tests.charts.helm import render

#: Words that are read one way or the other: YAML 1.1, YAML 1.2 and Go's own ideas of numbers are three things.
WORDS = (
    *("y", "N", "yes", "Off", "tRUE", "~", "null", "NULL", "none", "2001-01-01", "1:30", "1:30.5", "1.2.3", "=", "e3"),
    *("1e3", "1E3", "1e-05", "1.0e+5", "-.5e3", "+.5", ".5", "5.", "0.1_0", "nan", "1e", "0.0", "-0"),
    *("1_000", "1__0", "_1", "1_", "+1", "--1", "00", "08", "010", "-010", "0o10", "0o8", "0x1F", "0x", "0b11", "0b2"),
)


def test_helm_reads_a_word_as_it_was_checked(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: words, version: 1.0.0}")
    (tmp_path / "templates" / "words.yaml").write_text("said: {{ toJson .Values.words | quote }}")
    values = tmp_path / "values.yaml"
    values.write_text("words:\n" + "".join(f"  - {word}\n" for word in WORDS))
    (rendered,) = render(tmp_path, values)
    said = json.loads(rendered["said"])
    read = parse(values, values.read_bytes()).value["words"]
    assert dict(zip(WORDS, read, strict=True)) == dict(zip(WORDS, said, strict=True))
    assert [isinstance(word, bool) for word in read] == [isinstance(word, bool) for word in said]
