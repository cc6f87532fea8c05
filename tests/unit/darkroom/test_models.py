"""Models: what is taken for one, where it goes, and that it gets there and back whole, whatever comes between."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import signal
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ResponseStreamingError
from botocore.response import StreamingBody
from hypothesis import example, given
from hypothesis import strategies as st
from moto.s3.responses import S3Response
from typer.testing import CliRunner, Result

from darkroom.cli import app
from darkroom.models import formats
from darkroom.models.bucket import PART_SIZE
from darkroom_contract.names import Bucket, Names
from tests.watched import Call, Refusal, WatchedAws, start, watched_aws

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

NAMES = Names(cluster="studio", account="123456789012", region="eu-west-1")
BUCKET = NAMES.bucket(Bucket.MODELS)
KEY = "checkpoints/sdxl.safetensors"

# What a file is


def safetensors(tensors: dict[str, bytes], **metadata: str) -> bytes:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, content in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [end, end + len(content)]}
        end += len(content)
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + b"".join(tensors.values())


TENSORS = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name != "__metadata__"), st.binary(max_size=64), max_size=4
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(TENSORS, st.dictionaries(st.sampled_from(["format", "author"]), st.text()))
def test_safetensors_are_taken(tensors: dict[str, bytes], metadata: dict[str, str]) -> None:
    assert formats.safetensors_problem(io.BytesIO(safetensors(tensors, **metadata))) is None


@given(TENSORS.filter(bool), st.data())
def test_safetensors_that_were_cut_off_are_refused_wherever_that_was(
    tensors: dict[str, bytes], data: st.DataObject
) -> None:
    whole = safetensors(tensors)
    length = data.draw(st.integers(0, len(whole) - 1))
    assert formats.safetensors_problem(io.BytesIO(whole[:length]))


@given(TENSORS, st.binary(min_size=1))
def test_nothing_may_hide_behind_the_tensors(tensors: dict[str, bytes], more: bytes) -> None:
    assert formats.safetensors_problem(io.BytesIO(safetensors(tensors) + more))


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F16", "shape": [3], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]},
        {"dtype": "U8", "shape": [-4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [True, 4], "data_offsets": [0, 4]},
        {"dtype": "U8", "shape": [3], "data_offsets": [1, 4]},
        {"dtype": "U8", "shape": [4], "data_offsets": [0]},
        {"dtype": [], "shape": [4], "data_offsets": [0, 4]},
        {"shape": [4], "data_offsets": [0, 4]},
        [],
    ],
)
def test_a_tensor_that_disagrees_with_itself_is_refused(tensor: Any) -> None:
    raw = json.dumps({"weight": tensor}).encode()
    assert formats.safetensors_problem(io.BytesIO(len(raw).to_bytes(8, "little") + raw + b"1234"))


def test_two_tensors_of_one_name_or_in_one_place_are_refused() -> None:
    one = '"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}'
    for header in (f"{{{one}, {one}}}", f"{{{one}, {one.replace('a', 'b', 1)}}}"):
        raw = header.encode()
        assert formats.safetensors_problem(io.BytesIO(len(raw).to_bytes(8, "little") + raw + b"12"))


@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_a_pickle_is_known_by_what_it_is(value: object, protocol: int) -> None:
    assert formats.is_pickle(io.BytesIO(pickle.dumps(value, protocol)))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_begins_with_something_large_is_known(protocol: int) -> None:
    assert formats.is_pickle(io.BytesIO(pickle.dumps([b"x" * 200_000, os.system], protocol)))


@given(VALUES, st.sampled_from(["archive/data.pkl", "innocent.txt"]), st.booleans())
def test_a_zip_with_a_pickle_in_it_is_known(value: object, name: str, is_cut_off: bool) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("version", "3")
        archive.writestr(name, pickle.dumps(value))
    written = content.getvalue()
    assert formats.is_pickle(io.BytesIO(written[:-10] if is_cut_off else written))


@given(TENSORS)
@example({"x" * 223: b""})  # its header has as many bytes as the number of the operation by which pickles end
def test_safetensors_are_not_taken_for_a_pickle_whatever_they_begin_with(tensors: dict[str, bytes]) -> None:
    with NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(safetensors(tensors))
        file.flush()
        formats.check(Path(file.name))


@pytest.mark.parametrize("text", ["", "{}", '{"a": 1}\n', "# a comment\na: 1\n", "GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0"])
def test_settings_are_no_pickle(text: str) -> None:
    assert not formats.is_pickle(io.BytesIO(text.encode()))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.ckpt", pickle.dumps({}), "it is a pickle"),
        ("model.pt", b"anything", "it is a pickle"),
        ("model.safetensors", pickle.dumps({}), "it is a pickle, whatever its name says"),
        ("model.json", pickle.dumps({}), "it is a pickle"),
        ("model.bin", safetensors({"a": b"1"}), "rename it to model.safetensors"),
        ("model.sft", b"<html>404</html>", "it is no safetensors"),
        ("model.safetensors", b"", "it is no safetensors"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(formats.ModelRefused, match=words):
        formats.check(tmp_path / name)


def test_a_pickle_is_taken_if_that_is_said_but_never_as_safetensors(tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps({}))
    formats.check(tmp_path / "model.ckpt", allow_pickle=True)
    with pytest.raises(formats.ModelRefused):
        formats.check(tmp_path / "model.safetensors", allow_pickle=True)


# The bucket


def _parts_with_checksums(response: Any) -> Any:
    """What S3 says of the parts of an upload, of which moto leaves out the checksums."""
    status, headers, body = _LIST_PARTS(response)
    for part in response.backend.list_parts(response.bucket_name, response._get_param("uploadId"), 0, 10_000):
        number, checksum = f"<PartNumber>{part.name}</PartNumber>", _base64_sha256(part.value)
        body = body.replace(number, f"{number}<ChecksumSHA256>{checksum}</ChecksumSHA256>")
    return status, headers, body


_LIST_PARTS: Any = S3Response.list_parts


def _base64_sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


@pytest.fixture(scope="module")
def emulator() -> Iterator[WatchedAws]:
    with watched_aws() as watched, pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "list_parts", _parts_with_checksums)
        yield watched


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    """One for all: each reads the descriptions of AWS's services anew."""
    return boto3.Session("test", "test", region_name="eu-west-1")


@pytest.fixture
def aws(emulator: WatchedAws, session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> WatchedAws:
    monkeypatch.setattr(boto3, "Session", lambda **_: session)
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    emulator.forget()
    return emulator


@pytest.fixture
def s3(aws: WatchedAws, session: boto3.Session) -> Iterator[S3Client]:
    client = session.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws.forget()
    yield client
    aws.forget()
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    folder = tmp_path / "clusters" / "studio"
    (folder / "runtimes" / "portraits").mkdir(parents=True)
    (folder / "cluster.yaml").write_text(
        'cluster: {name: studio, account: "123456789012", region: eu-west-1, eksName: studio}\n'
    )
    (folder / "runtimes" / "portraits" / "runtime.yaml").write_text(
        "runtime: {engine: sdwebui, checkpoint: sdxl.safetensors}\n"
    )
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of three parts."""
    path = tmp_path / "checkpoints" / "sdxl.safetensors"
    path.parent.mkdir()
    path.write_bytes(safetensors({"weight": random.Random(1).randbytes(2 * PART_SIZE + 1000)}))
    return path


def darkroom(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "200"})


def push(model: Path, cluster: Path, *options: str) -> Result:
    return darkroom("push", model, "--cluster", cluster, *options)


def sent_parts(aws: WatchedAws) -> Counter[str]:
    return Counter(call.query["partNumber"] for call in aws.calls if "partNumber" in call.query)


def test_a_model_arrives_as_it_is_with_its_checksum(s3: S3Client, model: Path, cluster: Path) -> None:
    result = push(model, cluster)
    assert result.exit_code == 0, result.output
    stored = s3.get_object(Bucket=BUCKET, Key=KEY)
    assert stored["Body"].read() == model.read_bytes()
    assert stored["Metadata"] == {"sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    assert "uploaded" in result.output
    assert "named by portraits" in result.output


def test_a_model_that_is_there_is_not_sent_again(aws: WatchedAws, s3: S3Client, model: Path, cluster: Path) -> None:
    push(model, cluster)
    aws.forget()
    os.utime(model, (0, 0))
    result = push(model, cluster)
    assert result.exit_code == 0, result.output
    assert "unchanged" in result.output
    assert {call.method for call in aws.calls if call.path.startswith(f"/{BUCKET}")} == {"HEAD"}


def test_a_model_that_no_runtime_names_comes_with_the_next_command(s3: S3Client, model: Path, cluster: Path) -> None:
    other = model.rename(model.with_name("flux.safetensors"))
    result = push(other, cluster)
    assert (
        f"darkroom runtime new NAME --engine sdwebui --checkpoint flux.safetensors --cluster {cluster}" in result.output
    )


def test_another_file_takes_the_place_only_if_that_is_said(s3: S3Client, model: Path, cluster: Path) -> None:
    push(model, cluster)
    first = model.read_bytes()
    model.write_bytes(safetensors({"weight": b"other"}))
    result = push(model, cluster)
    assert result.exit_code == 1
    assert "say --replace" in result.output
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == first
    result = push(model, cluster, "--replace")
    assert result.exit_code == 0, result.output
    assert "rollout restart deployment/portraits" in result.output
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == model.read_bytes()


# Who am I, the bucket, what is there, begun uploads, a new one, three parts, their end, what is there.
_CALLS_OF_A_PUSH = 10


def test_a_push_makes_few_calls(aws: WatchedAws, s3: S3Client, model: Path, cluster: Path) -> None:
    push(model, cluster)
    assert len(aws.calls) == _CALLS_OF_A_PUSH


@pytest.mark.parametrize("number", range(1, _CALLS_OF_A_PUSH + 1))
def test_a_push_that_is_killed_at_any_call_goes_on(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path, tmp_path: Path, number: int
) -> None:
    def kill(_call: Call, at: int) -> None:
        if at >= number:
            os.kill(process.pid or 0, signal.SIGKILL)

    aws.after = kill
    process = start(["models", "push", str(model), "--cluster", str(cluster)], aws.url, tmp_path / "log")
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    aws.forget()
    taken = {part["PartNumber"] for part in _unfinished_parts(s3)}
    aws.forget()

    result = push(model, cluster)

    assert result.exit_code == 0, result.output
    assert not taken & {int(number) for number in sent_parts(aws)}
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == model.read_bytes()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def _unfinished_parts(s3: S3Client) -> Iterator[Any]:
    for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()):
        yield from s3.list_parts(Bucket=BUCKET, Key=KEY, UploadId=upload["UploadId"]).get("Parts", ())


def _begun(s3: S3Client, content: bytes, sha256: str) -> str:
    """Begin to upload a file, and send its first part."""
    upload = s3.create_multipart_upload(
        Bucket=BUCKET, Key=KEY, ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256}
    )["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key=KEY, UploadId=upload, PartNumber=1, Body=content)
    return upload


def test_what_is_left_of_another_file_is_given_up(aws: WatchedAws, s3: S3Client, model: Path, cluster: Path) -> None:
    _begun(s3, b"x" * PART_SIZE, "0" * 64)
    aws.forget()
    assert push(model, cluster).exit_code == 0
    assert sent_parts(aws) == {"1": 1, "2": 1, "3": 1}
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == model.read_bytes()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_of_several_that_were_begun_the_one_that_has_most_goes_on_and_other_models_are_left_alone(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path
) -> None:
    first, second = model.read_bytes()[:PART_SIZE], model.read_bytes()[PART_SIZE : 2 * PART_SIZE]
    most = _begun(s3, first, hashlib.sha256(model.read_bytes()).hexdigest())
    s3.upload_part(Bucket=BUCKET, Key=KEY, UploadId=most, PartNumber=2, Body=second)
    _begun(s3, first, "0" * 64)
    other = s3.create_multipart_upload(Bucket=BUCKET, Key=f"{KEY}.json")["UploadId"]
    aws.forget()
    result = push(model, cluster)
    assert result.exit_code == 0, result.output
    assert sent_parts(aws) == {"3": 1}
    assert [upload["UploadId"] for upload in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == [other]


def test_a_file_that_begins_as_another_has_its_own_checksum_in_the_end(
    s3: S3Client, model: Path, cluster: Path
) -> None:
    _begun(s3, model.read_bytes()[:PART_SIZE], "0" * 64)
    result = push(model, cluster)
    assert result.exit_code == 0, result.output
    assert (
        s3.head_object(Bucket=BUCKET, Key=KEY)["Metadata"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    )


def test_a_file_that_changes_while_it_is_sent_does_not_arrive(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path
) -> None:
    def change(call: Call, _number: int) -> Refusal | None:
        if "uploads" in call.query and call.method == "POST":
            with model.open("r+b") as file:
                file.seek(PART_SIZE + 5)
                file.write(b"changed")
        is_other = "partNumber" in call.query and call.headers["x-amz-checksum-sha256"] != _base64_sha256(call.body)
        return Refusal("BadDigest", 400) if is_other else None

    aws.before = change
    result = push(model, cluster)
    assert result.exit_code == 1
    assert "changed while it was sent" in result.output
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


def test_who_is_overtaken_by_another_file_says_so_and_writes_nothing(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path
) -> None:
    def overtake(call: Call, _number: int) -> Refusal | None:
        if call.method == "POST" and "uploadId" in call.query:
            assert call.headers["if-none-match"] == "*"
            aws.before = lambda _call, _number: None
            s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"another")
        return None

    aws.before = overtake
    result = push(model, cluster)
    assert result.exit_code == 1
    assert "somebody else writes it" in result.output
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"another"


def test_who_replaces_a_model_does_not_replace_another_that_came_meanwhile(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path
) -> None:
    before = s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"before")["ETag"]

    def overtake(call: Call, _number: int) -> Refusal | None:
        if call.method != "POST" or "uploadId" not in call.query:
            return None
        assert call.headers["if-match"] == before
        aws.before = lambda _call, _number: None
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"another")
        return Refusal("PreconditionFailed", 412)

    aws.before = overtake
    result = push(model, cluster, "--replace")
    assert result.exit_code == 1
    assert "somebody else writes it" in result.output
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"another"


def test_nothing_is_sent_if_one_of_the_files_is_refused(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path
) -> None:
    (model.parent / "evil.ckpt").write_bytes(pickle.dumps(os.system))
    result = push(model.parent, cluster)
    assert result.exit_code == 1
    assert "evil.ckpt: it is a pickle" in result.output
    assert not aws.calls


def test_a_folder_is_sent_as_it_is_laid_out(s3: S3Client, model: Path, cluster: Path) -> None:
    small = safetensors({"a": b"1"})
    root = model.parent.parent / "models"
    for name in ("Stable-diffusion/xl/base.safetensors", "Lora/ink.safetensors", "Lora/ink.preview.png", "VAE/.x.sft"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(small)
    result = push(root, cluster)
    assert result.exit_code == 0, result.output
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == ["checkpoints/xl/base.safetensors", "loras/ink.safetensors"]
    assert "ink.preview.png: no engine loads such a file" in result.output


@pytest.mark.parametrize(
    ("tensors", "folder"),
    [
        (("model.diffusion_model.input_blocks.0", "first_stage_model.decoder"), "checkpoints"),
        (("lora_unet_down.lora_up.weight", "lora_te_text.alpha"), "loras"),
        (("transformer.blocks.0.lora_A.weight",), "loras"),
        (("model.diffusion_model.input_blocks.0",), None),
        (("encoder.weight",), None),
        ((), None),
    ],
)
def test_a_file_goes_where_the_names_of_its_tensors_belong(
    tmp_path: Path, tensors: tuple[str, ...], folder: str | None
) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(dict.fromkeys(tensors, b"1")))
    assert formats.folder_by_tensors(tmp_path / "model.safetensors") == folder


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("somewhere/model.safetensors", (), "Say the folder by --to"),
        ("checkpoints/model.zip", (), "no engine loads it"),
        ("checkpoints/.model.safetensors", (), "begin with a dot"),
        ("checkpoints/a\\b.safetensors", (), "backslash"),
        ("checkpoints/model.safetensors", ("--to", "checkpoint"), "no engine looks there"),
        ("checkpoints/model.safetensors", ("--to", "loras/../vae"), "begin with a dot"),
        ("checkpoints/" + "x" * 245 + ".safetensors", (), "too long"),
    ],
)
def test_a_file_that_could_not_be_used_is_refused(
    tmp_path: Path, cluster: Path, name: str, options: tuple[str, ...], words: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if len(path.name) <= 255:
        path.write_bytes(safetensors({"a": b"1"}))
    result = push(path, cluster, *options)
    assert result.exit_code == 1
    assert words in result.output or (len(path.name) > 255 and "no such file" in result.output)


def test_before_there_is_a_cluster_it_says_what_makes_the_bucket(aws: WatchedAws, model: Path, cluster: Path) -> None:
    for result in (push(model, cluster), darkroom("list", "--cluster", cluster)):
        assert result.exit_code == 1
        assert f"there is no bucket {BUCKET}: darkroom bootstrap" in result.output
    assert not sent_parts(aws)


def test_a_url_is_no_file(cluster: Path) -> None:
    result = darkroom("push", "https://example.org/model.safetensors", "--cluster", cluster)
    assert "fetch first" in result.output


def test_on_a_file_system_it_says_what_to_do_instead(model: Path, cluster: Path) -> None:
    (cluster / "cluster.yaml").write_text(
        'cluster: {name: studio, account: "123456789012", region: eu-west-1, eksName: studio, models: {efs: '
        "{vpcId: vpc-0123456789abcdef0, subnetIds: [subnet-0a123456789abcdef], "
        "nodeSecurityGroupId: sg-0123456789abcdef0}}}\n"
    )
    result = push(model, cluster)
    assert result.exit_code == 1
    assert "mount its access point" in result.output


def test_the_list_says_what_is_there_and_who_names_it(s3: S3Client, model: Path, cluster: Path) -> None:
    push(model, cluster)
    s3.put_object(Bucket=BUCKET, Key="loras/ink.safetensors", Body=b"by another program")
    result = darkroom("list", "--cluster", cluster)
    assert result.exit_code == 0, result.output
    _, first, second, whole = result.output.splitlines()
    assert first.split()[0] == KEY
    assert first.split()[-2:] == [hashlib.sha256(model.read_bytes()).hexdigest()[:10], "portraits"]
    assert second.split()[0] == "loras/ink.safetensors"
    assert second.split()[-1] == "unknown"
    assert whole.startswith("2 models, 16.8 MB")


# Down


def pull(name: str, cluster: Path, out: Path) -> Result:
    return darkroom("pull", name, "--cluster", cluster, "--out", out)


@pytest.mark.parametrize("name", [KEY, "sdxl.safetensors"])
def test_a_model_comes_back_as_it_was(s3: S3Client, model: Path, cluster: Path, tmp_path: Path, name: str) -> None:
    push(model, cluster)
    result = pull(name, cluster, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sdxl.safetensors"]
    assert (tmp_path / "out" / "sdxl.safetensors").read_bytes() == model.read_bytes()


def test_a_model_with_a_wrong_checksum_leaves_nothing(s3: S3Client, model: Path, cluster: Path, tmp_path: Path) -> None:
    push(model, cluster)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"another", Metadata={"sha256": "0" * 64})
    result = pull(KEY, cluster, tmp_path / "out")
    assert result.exit_code == 1
    assert "did not arrive as it was pushed" in result.output
    assert not list((tmp_path / "out").iterdir())


def test_a_pull_goes_on_where_it_stopped(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path, tmp_path: Path
) -> None:
    push(model, cluster)
    out = tmp_path / "out"
    out.mkdir()
    etag = s3.head_object(Bucket=BUCKET, Key=KEY)["ETag"].strip('"')
    (out / f".sdxl.safetensors.{etag}.part").write_bytes(model.read_bytes()[:PART_SIZE])
    (out / ".sdxl.safetensors.older.part").write_bytes(b"of the model that was there before")
    aws.forget()
    result = pull(KEY, cluster, out)
    assert result.exit_code == 0, result.output
    [fetched] = [call for call in aws.calls if call.method == "GET" and call.path.endswith(KEY)]
    assert fetched.headers["range"] == f"bytes={PART_SIZE}-"
    assert fetched.headers["if-match"] == f'"{etag}"'
    assert [path.name for path in out.iterdir()] == ["sdxl.safetensors"]
    assert (out / "sdxl.safetensors").read_bytes() == model.read_bytes()


def _breaking(monkeypatch: pytest.MonkeyPatch, pieces: Iterator[int]) -> None:
    """Let each connection break after so many pieces, for as long as there are numbers."""
    read = StreamingBody.iter_chunks

    def broken(self: StreamingBody, size: int) -> Iterator[bytes]:
        if (number := next(pieces, None)) is None:
            yield from read(self, size)
            return
        yield from islice(read(self, size), number)
        raise ResponseStreamingError(error="it broke")

    monkeypatch.setattr(StreamingBody, "iter_chunks", broken)


def test_a_connection_that_breaks_is_made_anew_for_as_long_as_something_comes(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, cluster)
    aws.forget()
    _breaking(monkeypatch, iter([1, 2]))
    result = pull(KEY, cluster, tmp_path / "out")
    assert result.exit_code == 0, result.output
    asked = [call.headers["range"] for call in aws.calls if call.method == "GET" and call.path.endswith(KEY)]
    assert asked == ["bytes=0-", f"bytes={2**20}-", f"bytes={3 * 2**20}-"]
    assert (tmp_path / "out" / "sdxl.safetensors").read_bytes() == model.read_bytes()


def test_a_connection_by_which_nothing_comes_is_given_up(
    s3: S3Client, model: Path, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, cluster)
    _breaking(monkeypatch, iter([1, 0]))
    result = pull(KEY, cluster, tmp_path / "out")
    assert result.exit_code == 1
    assert "it broke" in result.output
    [left] = (tmp_path / "out").iterdir()
    assert left.read_bytes() == model.read_bytes()[: 2**20]


def test_a_disk_without_room_is_said_before_anything_comes(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(model, cluster)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    aws.forget()
    result = pull(KEY, cluster, tmp_path / "out")
    assert result.exit_code == 1
    assert f"has room for 10 bytes, and {model.stat().st_size:,} are to come" in result.output
    assert not [call for call in aws.calls if call.method == "GET" and call.path.endswith(KEY)]


def test_a_model_that_is_replaced_while_it_comes_is_not_mixed(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path, tmp_path: Path
) -> None:
    push(model, cluster)
    aws.before = lambda call, _number: Refusal("PreconditionFailed", 412) if call.method == "GET" else None
    result = pull(KEY, cluster, tmp_path / "out")
    assert result.exit_code == 1
    assert "was replaced meanwhile" in result.output
    assert not (tmp_path / "out" / "sdxl.safetensors").exists()


def test_a_file_that_is_there_already_is_never_overwritten(
    aws: WatchedAws, s3: S3Client, model: Path, cluster: Path, tmp_path: Path
) -> None:
    push(model, cluster)
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(model, out)
    aws.forget()
    assert pull(KEY, cluster, out).exit_code == 0
    assert not [call for call in aws.calls if call.method == "GET" and call.path.endswith(KEY)]
    (out / "sdxl.safetensors").write_bytes(b"mine")
    result = pull(KEY, cluster, out)
    assert result.exit_code == 1
    assert (out / "sdxl.safetensors").read_bytes() == b"mine"


def test_what_is_not_there_is_said_with_what_is_near(s3: S3Client, model: Path, cluster: Path, tmp_path: Path) -> None:
    push(model, cluster)
    result = pull("checkpoints/sdxI.safetensors", cluster, tmp_path)
    assert result.exit_code == 1
    assert KEY in result.output
