"""The .proto, its generated stubs, and its promise not to break anybody."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

import tilestream.v1.segmentation_pb2 as server_pb
import tilestream_client.v1.segmentation_pb2 as client_pb

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
COPIES = (ROOT / "server/tilestream/v1", ROOT / "client/python/tilestream_client/v1")


GO_STUBS = ROOT / "client/go/tilestream/v1"


def compiled_now(tmp_path: Path) -> descriptor_pb2.FileDescriptorProto:
    pytest.importorskip("grpc_tools")
    out = tmp_path / "image.binpb"
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"),
            *(f"--descriptor_set_out={out}", "tilestream/v1/segmentation.proto"),
        ],
        check=True,
    )
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return without_json_names(file)


def without_json_names(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Python's stubs leave them out: they follow from the names."""
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return file


def test_stubs_are_current(tmp_path):
    committed = descriptor_pb2.FileDescriptorProto()
    server_pb.DESCRIPTOR.CopyToProto(committed)
    assert committed == compiled_now(tmp_path), "run `make proto`"


def test_go_stubs_are_current(tmp_path):
    """They hold the compiled file as one long string; told without a Go toolchain."""
    text = (GO_STUBS / "segmentation.pb.go").read_text()
    lines = text.partition("_rawDesc = ")[2].partition("\n\n")[0].splitlines()
    data = b"".join(ast.literal_eval(f"b{line.strip().removesuffix(' +')}") for line in lines)
    committed = without_json_names(descriptor_pb2.FileDescriptorProto.FromString(data))
    assert committed == compiled_now(tmp_path), "run `make proto`"
    calls = (GO_STUBS / "segmentation_grpc.pb.go").read_text()
    for method in server_pb.DESCRIPTOR.services_by_name["SegmentationService"].methods:
        assert f"SegmentationService_{method.name}_FullMethodName" in calls


def test_both_copies_are_the_same():
    names = {path.name for path in COPIES[0].glob("*.py*")}
    assert names == {path.name for path in COPIES[1].glob("*.py*")}
    for name in names:
        assert (COPIES[0] / name).read_text() == (COPIES[1] / name).read_text(), name


def test_both_copies_live_in_one_process():
    data = server_pb.Frame(frame_id=7, data=b"x").SerializeToString()
    assert client_pb.Frame.FromString(data).frame_id == 7


def test_service_stubs_have_every_call():
    text = (COPIES[0] / "segmentation_pb2_grpc.py").read_text()
    for method in server_pb.DESCRIPTOR.services_by_name["SegmentationService"].methods:
        assert f"self.{method.name} = channel." in text


def test_every_zero_enum_value_is_unspecified():
    for enum in server_pb.DESCRIPTOR.enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")


def test_lint_and_no_breaking_change():
    if not shutil.which("npm"):
        pytest.skip("npm is not there: buf lint and buf breaking were not run")
    result = subprocess.run([PROTO / "check.sh"], capture_output=True, text=True, check=False, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    if "skipped" in result.stderr:
        pytest.skip(result.stderr.strip())
