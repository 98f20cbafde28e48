#!/bin/sh
# Takes out of an installed environment what no program reads at run time: tests, headers, and what is for building
# against it. Usage: trim.sh PREFIX
set -eu
cd "$1"/lib/python3*/site-packages
if [ -d torch ]; then
  rm -rf torch/include torch/test torch/share/cmake torch/lib/lib*test*.so
  find torch/bin -mindepth 1 -maxdepth 1 ! -name torch_shm_manager -exec rm -rf {} +
fi
for package in numpy sympy networkx mpmath; do
  [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
[ ! -d nvidia ] || find nvidia -type d -name include -prune -exec rm -rf {} +
