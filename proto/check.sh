#!/bin/sh
# Lint the public API and compare it with the last released one. Needs npm, which gets buf into
# build/buf on first use; where that cannot be had it says "skipped" and is content.
#   proto/check.sh            lint and check for breaking changes
#   proto/check.sh release    make the present API the released one
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
version=1.75.0
buf="$root/build/buf/node_modules/.bin/buf"
released="$root/proto/released/tilestream.v1.binpb"

if ! [ -x "$buf" ]; then
    command -v npm >/dev/null || { echo "proto/check.sh: npm is not there, buf lint and buf breaking are skipped" >&2; exit 0; }
    mkdir -p "$root/build/buf"
    npm install --prefix "$root/build/buf" --no-audit --no-fund --silent "@bufbuild/buf@$version" >&2 ||
        { echo "proto/check.sh: npm cannot install buf $version, buf lint and buf breaking are skipped" >&2; exit 0; }
fi

cd "$root/proto"
"$buf" lint || exit 1
if [ "${1:-}" = release ]; then
    mkdir -p released
    "$buf" build --exclude-source-info -o "$released"
else
    "$buf" breaking --against "$released" || exit 1
fi
echo "proto: lint and compatibility are fine"
