"""Check the Go client (``make go-test``): format, vet, staticcheck, tests, a little fuzzing.

Where there is neither a Go toolchain nor its modules this says so and is content; with CI or
TILESTREAM_REQUIRE_GO in the environment that is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools import go_toolchain

FUZZ_SECONDS = 3  # of every fuzz test: enough to notice what a change broke, see -fuzztime for more
STATICCHECK = "honnef.co/go/tools/cmd/staticcheck"
REQUIRE = ("CI", "TILESTREAM_REQUIRE_GO")
RULER = "!" * 78


def main() -> int:
    """Run all checks; the exit status."""
    try:
        go = go_toolchain.find()
        go_toolchain.fetch_modules(go)
        tools = go_toolchain.build_tools(go, STATICCHECK)
    except go_toolchain.MissingError as error:
        print(f"{RULER}\ngo-test: SKIPPED, the Go client was not tested: {error}\n{RULER}", file=sys.stderr)
        return int(any(os.environ.get(name) for name in REQUIRE))
    fuzzing = [
        ("go", "test", "-run=^$", f"-fuzz=^{name}$", f"-fuzztime={FUZZ_SECONDS}s", package)
        for package, name in fuzz_tests()
    ]
    for words in (
        ("go", "mod", "verify"),
        ("go", "vet", "./..."),
        (str(tools / "staticcheck"), "./..."),
        ("go", "test", *race_detector(), "-p=1", "./..."),
        *fuzzing,
    ):
        if not passes(go, words):
            return 1
    return int(not is_formatted(go))


def race_detector() -> tuple[str, ...]:
    """The flag, where there is the C compiler that it needs."""
    if shutil.which(os.environ.get("CC", "gcc")):
        return ("-race",)
    print("go-test: there is no C compiler, so the tests run without the race detector", file=sys.stderr)
    return ()


def passes(go: Path, words: tuple[str, ...]) -> bool:
    """Run one command in the module, its output shown only where it fails; whether it succeeded."""
    began = time.monotonic()
    command = [str(go) if words[0] == "go" else words[0], *words[1:]]
    done = subprocess.run(
        command, cwd=go_toolchain.MODULE, env=go_toolchain.environment(go), check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = " ".join([Path(words[0]).name, *words[1:]])
    print(f"go-test: {said}: {'ok' if not done.returncode else 'FAILED'}, {time.monotonic() - began:.1f} s")
    if done.returncode:
        print(done.stdout)
    return not done.returncode


def is_formatted(go: Path) -> bool:
    """Whether gofmt would change nothing; says what it would change."""
    environment = go_toolchain.environment(go)
    root = subprocess.run(
        (str(go), "env", "GOROOT"), env=environment, check=True, capture_output=True, text=True
    )
    gofmt = Path(root.stdout.strip()) / "bin" / "gofmt"
    words = (str(gofmt),) if gofmt.is_file() else (str(go), "run", "cmd/gofmt")
    told = subprocess.run(
        (*words, "-l", "."),
        cwd=go_toolchain.MODULE,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in told.stdout.split():
        print(f"go-test: {name} is not formatted: run gofmt -w")
    return not told.stdout.strip()


def fuzz_tests() -> list[tuple[str, str]]:
    """Package and name of every fuzz test; ``go test -fuzz`` takes one at a time."""
    found = []
    for path in sorted(go_toolchain.MODULE.rglob("*_test.go")):
        package = f"./{path.parent.relative_to(go_toolchain.MODULE).as_posix()}"
        found += [(package, name) for name in re.findall(r"^func (Fuzz\w+)\(", path.read_text(), re.M)]
    return found


if __name__ == "__main__":
    sys.exit(main())
