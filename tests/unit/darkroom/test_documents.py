"""Any file can be read, or is refused with the line that is wrong."""

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from darkroom.documents import Document, Dumper, Unreadable, parse, read, validate
from darkroom_contract.schemas import ClusterFile, ImagesFile, RuntimeFile, WorkflowsFile

PATH = Path("runtime.yaml")


def parsed(text: str) -> Document:
    return parse(PATH, text.encode())


def refusal(text: str | bytes) -> str:
    with pytest.raises(Unreadable) as refused:
        parse(PATH, text if isinstance(text, bytes) else text.encode())
    return str(refused.value.finding)


def test_every_field_has_its_line() -> None:
    document = parsed("# A comment.\nruntime:\n  args:\n    - --a\n    - --b\n  env: {A: '1',\n    B: '2'}\n")
    places = [("runtime",), ("runtime", "args"), ("runtime", "args", 1), ("runtime", "env", "B")]
    assert [document.lines[place] for place in places] == [2, 3, 5, 7]


def test_what_is_missing_is_said_where_it_would_be() -> None:
    assert str(parsed("a:\n  b: {}").finding(("a", "b", "c", 0), "words")) == "runtime.yaml:2: a.b.c[0]: words"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "runtime.yaml:3: a: it is there already in line 1: keep one of them"),
        ("a:\n  1: x\n  '1': y\n", "runtime.yaml:3: a.1: it is there already in line 2"),
        ("a: &x [1]\nb: *x\n", "runtime.yaml:2: aliases are not taken: write out what this one stands for"),
        ("a: {<<: {b: 1}}", "runtime.yaml:1: a: a key has to be a text"),
        ("true: 1", "runtime.yaml:1: a key has to be a text: put it in quotes"),
        ("y: 1", "runtime.yaml:1: a key has to be a text: put it in quotes"),
        ("010: 1", "runtime.yaml:1: a key has to be a text: put it in quotes"),
        ("[a]: 1", "runtime.yaml:1: a key has to be a text: put it in quotes"),
        ("a: !!python/object:os.system {}", "runtime.yaml:1: a: the tag tag:yaml.org,2002:python/object:os.system has"),
        ("a: !!binary aGk=", "has no meaning: leave it out"),
        ("a: !!set {b}", "has no meaning: leave it out"),
        ("a: 0x_", "runtime.yaml:1: a: it is no number or word that YAML knows: put it in quotes"),
        (f"a: {'9' * 5000}", "runtime.yaml:1: a: it is no number or word that YAML knows"),
        ('a: "\\ud800"', "runtime.yaml:1: a: it has half of a surrogate pair"),
        ("a: 1\n\tb: 2\n", "runtime.yaml:2: not YAML: "),
        ("a: 1\n--- \nb: 2\n", "runtime.yaml:2: not YAML: "),
        ("a: \x00", "runtime.yaml:1: not YAML: a control character"),
        (b"a: 1\nb: \xff\n", "runtime.yaml:2: it is not text in UTF-8"),
        ("a: 1".encode("utf-16"), "runtime.yaml:1: it is not text in UTF-8"),
        ("[" * 150 + "]" * 150, "it is nested too deeply"),
        ("[" * 50000, "it is nested too deeply"),
    ],
)
def test_what_yaml_hides_is_refused(text: str | bytes, said: str) -> None:
    assert said in refusal(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2001-01-01", "2001-01-01"),
        ("a: 3", 3),
        ("a:", None),
        ("a: .5", 0.5),
        ("a: 1e-05", 0.00001),
        ("a: 1:30", "1:30"),
        ("a: y", True),
    ],
)
def test_a_value_is_what_helm_takes_it_for(text: str, value: object) -> None:
    assert parsed(text).value == {"a": value}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ('accepting: "no"', "runtime.accepting: it has to be true or false, without quotes"),
        ("accepting: 0", "runtime.accepting: it has to be true or false"),
        ('scaling: {maxPods: "4"}', "runtime.scaling.maxPods: it has to be a whole number, without quotes"),
        ("scaling: {maxPods: many}", "runtime.scaling.maxPods: it has to be a whole number"),
        ('scaling: {secondsPerPicture: "1.5"}', "runtime.scaling.secondsPerPicture: it has to be a number, without qu"),
        ("args: --xformers", "runtime.args: it has to be a list: [--xformers]"),
        ('inputHosts: "*.example.com"', 'runtime.inputHosts: it has to be a list: ["*.example.com"]'),
        ("args: {xformers: true}", "runtime.args: it has to be a list: [one, another]"),
        ("loras: [a]", "runtime.loras: it has to be one text"),
        ("gpu: G5", "runtime.gpu: it should be 'g4dn', 'g5', 'g6', 'g6e', 'p4d' or 'p5'; did you mean g5?"),
        ("scaling:", "runtime.scaling: there is nothing in it: take the line away, or say something in it"),
        ("scaling: 4", "runtime.scaling: it has to have lines below it, further to the right: minPods: "),
        ("maxPods: 4", "runtime.maxPods: there is no such field; maxPods belongs to runtime.scaling"),
        ("cpu: 4", "runtime.cpu: there is no such field; cpu belongs to runtime.resources"),
        ("resources: {args: [a]}", "runtime.resources.args: there is no such field; args belongs to runtime"),
        ("max_starts: 3", "runtime.max_starts: there is no such field; did you mean maxStarts?"),
    ],
)
def test_a_misfit_is_said_with_what_would_be_right(fields: str, said: str) -> None:
    document = parsed(f"runtime:\n  engine: sdwebui\n  {fields}\n")
    (finding,) = validate(document, RuntimeFile)[1]
    assert str(finding).startswith(f"runtime.yaml:3: {said}")


def test_what_is_none_of_the_words_is_told_all_of_them() -> None:
    subscriber = "{name: me, protocol: email, endpoint: a@b.net, filter: {status: [done]}}"
    document = parsed(f"cluster: {{name: a, account: '1', region: b, eksName: c, subscribers: [{subscriber}]}}")
    said = {finding.field: finding.words for finding in validate(document, ClusterFile)[1]}
    words = "it should be 'running', 'completed', 'failed' or 'cancelled'"
    assert said["cluster.subscribers[0].filter.status[0]"] == words


def test_a_runtime_with_nothing_in_it_is_told_what_it_needs() -> None:
    (finding,) = validate(parsed("runtime:\n  # engine: sdwebui\n"), RuntimeFile)[1]
    assert "runtime: there is nothing in it: it has to have lines below it, further to the right: engine: " in str(
        finding
    )


@pytest.mark.parametrize("between", ["  engine: sdwebui\n", "  engine: sdwebui\n  args:\n    - a\n"])
def test_an_option_within_another_that_is_still_a_comment_is_hinted_at(between: str) -> None:
    said = refusal(f"runtime:\n{between}  #scaling:\n      maxPods: 4\n")
    assert "If you took away its #, take away that of the line that it belongs to, too" in said


def test_an_empty_file_says_nothing() -> None:
    assert parsed("# only a comment").value is None


def test_what_is_no_file_of_a_fair_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_bytes(bytes(2 * 1024 * 1024))
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    refused = {"": "has to be a file", "none.yaml": "no such file", "model.yaml": "larger than 1 MiB"}
    for name, said in (refused | {"zero.yaml": "has to be a file", "loop.yaml": "cannot be read"}).items():
        with pytest.raises(Unreadable, match=said):
            read(tmp_path / name)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with suppress(Unreadable):
        assert parse(PATH, content).lines[()] == 1


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_KEYS = st.sampled_from(
    [
        "runtime",
        "cluster",
        "images",
        "workflows",
        "engine",
        "scaling",
        "minPods",
        "args",
        "env",
        "gpuNodes",
        "pools",
        "gpu",
    ]
) | st.text(max_size=5)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=20
)


@given(value=_VALUES, key=_KEYS)
def test_any_yaml_is_a_description_or_is_refused_with_words(value: object, key: str) -> None:
    document = parsed(yaml.dump({key: value}, Dumper=Dumper, allow_unicode=True))
    for model in (ClusterFile, ImagesFile, RuntimeFile, WorkflowsFile):
        file, findings = validate(document, model)
        assert (file is None) == bool(findings)
        assert all(finding.line >= 1 and finding.words for finding in findings)
