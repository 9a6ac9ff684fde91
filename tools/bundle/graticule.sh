#!/bin/sh
# usage: graticule SUBCOMMAND...             for instance: ./graticule train configs/quickstart.textproto
#
# Runs Graticule against the LibTorch of a pip-installed torch @TORCH_VERSION@: the one in the folder that GRATICULE_LIBTORCH
# names (…/site-packages/torch), else in the active virtual environment, the active conda environment, or where python3
# has it.
set -eu

version=@TORCH_VERSION@
libraries="@TORCH_LIBRARIES@"

here=$(dirname -- "$(readlink -f -- "$0")")
program=$here/bin/graticule

fail() {
  echo "graticule: $1" >&2
  exit 1
}

# Where a Python has torch, which is not imported for that: it would take seconds. The working directory does not count.
torch_of() {
  "$1" -c '
import importlib.util, sys
sys.path = [folder for folder in sys.path if folder]
spec = importlib.util.find_spec("torch")
if spec and spec.submodule_search_locations: print(list(spec.submodule_search_locations)[0])' 2>/dev/null || true
}

# "2.11.0" of 2.11.0+cu130; "none" of a folder that is no torch.
version_of() {
  found=$(sed -n "s/^__version__ = '\([^'+]*\).*/\1/p" "$1/version.py" 2>/dev/null) || true
  echo "${found:-none}"
}

# Sets `torch` to a folder that has the right version; others are remembered.
torch=
others=
consider() {
  [ -z "$torch" ] && [ -n "$1" ] || return 0
  if [ "$(version_of "$1")" = "$version" ]; then
    torch=$1
  else
    others="$others, $(version_of "$1") in $1"
  fi
}

help="\`pip install torch==$version\` installs it; GRATICULE_LIBTORCH=/path/to/site-packages/torch names one that is elsewhere"
if [ -n "${GRATICULE_LIBTORCH:-}" ]; then
  consider "$GRATICULE_LIBTORCH"
else
  for python in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python3}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python3}" python3; do
    [ -z "$python" ] || consider "$(torch_of "$python")"
  done
fi
[ -n "$torch$others" ] || fail "no LibTorch found: no python3 has torch, of an active environment or another; $help"
[ -n "$torch" ] || fail "LibTorch $version is needed, but there is ${others#, }; $help"

torch=$(cd -- "$torch" && pwd)

for library in $libraries; do
  [ -e "$torch/lib/$library" ] || fail "$torch/lib has no $library@CUDA_HINT@"
done

# The libraries of Debian's that come along are found before these, by the program's own RPATH.
folders=$torch/lib
for folder in "$torch"/../nvidia/*/lib; do
  [ ! -d "$folder" ] || folders=$folders:$folder
done
export LD_LIBRARY_PATH="$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# A torch for the CPU alone may have its OpenMP under a name of its own. The program's calls must reach that one, and the
# name that the program knows must be there.
if [ ! -e "$torch/lib/libgomp.so.1" ]; then
  for library in "$torch"/lib/libgomp-*.so*; do
    [ ! -e "$library" ] || export LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}"
  done
  LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$here/lib/openmp
fi

# What else the dynamic loader would miss, in words: its own name one library at a time.
missing=$(LD_TRACE_LOADED_OBJECTS=1 "$program" 2>&1 | sed -n "s/^[[:space:]]*\(.*\) => not found.*/\1/p; s/.*version [\`']\([^']*\)' not found.*/\1/p" | sort -u | tr '\n' ' ')
case $missing in
  "") ;;
  *GLIBC*) fail "this system is too old: it lacks ${missing% }; Debian 12 and Ubuntu 22.04 are the oldest that will do" ;;
  *) fail "libraries are missing: ${missing% }; those of CUDA come with torch (\`pip install torch==$version\` without --no-deps)" ;;
esac

GRATICULE_COMMAND=$0 exec "$program" "$@"
