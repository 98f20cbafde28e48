"""Generate the Python and Go stubs of the public API (``make proto``).

One .proto, two copies: the client package installs without the server and the server without
the client. Both register the same file name with the same bytes, which protobuf allows in one
process. The stubs are committed; a user never runs this.

The compiler is pinned to the last release whose output does not tie itself to one protobuf
major version, so that the stubs run with protobuf 4.25 up to 7. It gets a throw-away
environment of its own, ``build/prototools``.

The same compiler makes the stubs of the Go client, with the two plugins that ``client/go/tools`` pins.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from tools import go_toolchain

GRPC_TOOLS = ("grpcio-tools==1.62.3", "setuptools<81")  # its protoc plugin imports pkg_resources

ROOT = Path(__file__).resolve().parent.parent
PROTO_DIR = ROOT / "proto"
PROTO_FILE = "tilestream/v1/segmentation.proto"
TARGETS = (
    ROOT / "server" / "tilestream" / "v1",
    ROOT / "client" / "python" / "tilestream_client" / "v1",
)
GO_MODULE = ROOT / "client" / "go"
GO_MODULE_NAME = "github.com/tilestream/tilestream/client/go"
INIT = '"""Generated stubs of proto/tilestream/v1; `make proto` writes them, nobody edits them."""\n'


def compiler() -> Path:
    """The Python of the environment that holds the pinned compiler; made on first use."""
    env = ROOT / "build" / "prototools"
    python = env / "bin" / "python"
    probe = [str(python), "-c", "import grpc_tools.protoc"]
    if not python.exists() or subprocess.run(probe, capture_output=True, check=False).returncode:
        venv.create(env, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *GRPC_TOOLS], check=True)
    return python


def generate(out: Path) -> dict[str, str]:
    """Compile into ``out`` (any empty folder); the generated files by name, imports made relative."""
    subprocess.run(
        [
            str(compiler()), "-W", "ignore", "-m", "grpc_tools.protoc",
            f"--proto_path={PROTO_DIR}", f"--python_out={out}", f"--pyi_out={out}",
            f"--grpc_python_out={out}", str(PROTO_DIR / PROTO_FILE),
        ],
        check=True,
    )  # fmt: skip
    files = {}
    for path in sorted((out / "tilestream" / "v1").iterdir()):
        text = path.read_text().replace("from tilestream.v1 import", "from . import")
        files[path.name] = text
    return files


def generate_go() -> list[Path]:
    """Compile into the Go module; what was written. Raises go_toolchain.MissingError."""
    go = go_toolchain.find()
    plugins = go_toolchain.build_tools(go)
    subprocess.run(
        [
            str(compiler()), "-W", "ignore", "-m", "grpc_tools.protoc",
            f"--proto_path={PROTO_DIR}",
            f"--plugin=protoc-gen-go={plugins / 'protoc-gen-go'}",
            f"--plugin=protoc-gen-go-grpc={plugins / 'protoc-gen-go-grpc'}",
            f"--go_out={GO_MODULE}", f"--go_opt=module={GO_MODULE_NAME}",
            f"--go-grpc_out={GO_MODULE}", f"--go-grpc_opt=module={GO_MODULE_NAME}",
            str(PROTO_DIR / PROTO_FILE),
        ],
        check=True,
    )  # fmt: skip
    return sorted((GO_MODULE / "tilestream" / "v1").glob("*.pb.go"))


def main() -> int:
    scratch = ROOT / "build" / "proto"
    scratch.mkdir(parents=True, exist_ok=True)
    files = generate(scratch)
    for target in TARGETS:
        target.mkdir(parents=True, exist_ok=True)
        (target / "__init__.py").write_text(INIT)
        for name, text in files.items():
            (target / name).write_text(text)
        print(f"wrote {len(files)} files to {target.relative_to(ROOT)}")
    try:
        written = generate_go()
    except go_toolchain.MissingError as error:
        print(f"the stubs of the Go client were not written: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(written)} files to {written[0].parent.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
