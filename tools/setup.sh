#!/usr/bin/env bash
# Makes the virtual environment with pinned versions. Called by `make setup`; safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-python3}" VENV="${VENV:-.venv}" TORCH_INDEX="${TORCH_INDEX:-}"

fail() { echo "setup: $*" >&2; exit 1; }

# Installs Debian packages where that is possible, says how otherwise.
apt_install() {
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
      { apt-get update >/dev/null 2>&1 && apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1; }
  else
    return 1
  fi
}

command -v "$PYTHON" >/dev/null || apt_install python3 || fail "Python 3.11 or newer is missing: sudo apt-get install python3 python3-venv"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Python 3.11 or newer is needed, $PYTHON is $("$PYTHON" -V 2>&1); name another one with PYTHON=..."
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv ||
  fail "Python's venv module is missing: sudo apt-get install python3-venv"

if ! ldconfig -p 2>/dev/null | grep -q libturbojpeg.so.0 && ! apt_install libturbojpeg0 && ! apt_install libturbojpeg; then
  echo "setup: libturbojpeg is not installed; the bundled library of simplejpeg is used instead" \
       "(to have the system's: sudo apt-get install libturbojpeg0, on Ubuntu libturbojpeg)" >&2
fi

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }
if [ -n "$TORCH_INDEX" ]; then
  pip install -q -c constraints.txt --index-url "$TORCH_INDEX" torch
fi
pip install -q -c constraints.txt -r requirements-dev.txt ||
  fail "pip could not install the packages; the lines above say which one (is there a network?)"
echo "setup: ready, $("$VENV/bin/python" -c 'import torch; print("PyTorch", torch.__version__)')"
