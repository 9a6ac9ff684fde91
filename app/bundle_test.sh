#!/usr/bin/env bash
# The bundle runs in an empty folder with an empty environment, and says what is wrong where it can't.
# usage: bundle_test ARCHIVE TORCH_VERSION_PY
set -euo pipefail

readonly LIMIT=$((60 * 1024 * 1024))
archive=$1 version_py=$PWD/$2
runfiles=$PWD
scratch=$(mktemp -d -p "${TEST_TMPDIR:-/tmp}")
fail() {
  echo "FAILED: $*" >&2
  exit 1
}

size=$(stat --dereference --format=%s "$archive")
((size < LIMIT)) || fail "$archive has $size bytes"
tar -xzf "$archive" -C "$scratch"
bundle=$(echo "$scratch"/graticule-*)
cd -- "$bundle"

# What pip installs as site-packages/torch, as far as the program needs it.
torch=$scratch/site-packages/torch
mkdir -p "$torch/lib" "$scratch/empty"
ln -s "$version_py" "$torch/version.py"
find -L "$runfiles/_solib_k8" -name '*.so*' -exec ln -s -t "$torch/lib" {} +

# start [VARIABLE=VALUE...] ARGUMENTS...: the program, with nothing else in its environment.
start() { env -i PATH=/usr/bin:/bin "$@"; }
# refuses TEXT VARIABLE=VALUE...: it does not start, and the last line that it says has the text.
refuses() {
  local text=$1 status=0
  shift
  start "$@" ./graticule --version >"$scratch/out" 2>&1 || status=$?
  [[ $status == 1 ]] || fail "$* exited with $status: $(<"$scratch/out")"
  tail -n 1 "$scratch/out" | grep -qF -- "$text" || fail "$* did not say '$text' but: $(<"$scratch/out")"
}

found=GRATICULE_LIBTORCH=$torch
[[ graticule-$(start "$found" ./graticule --version) == "$(basename "${bundle%-cuda}")" ]] || fail "another version"
start "$found" ./graticule list >"$scratch/out"
grep -q 'graticule\.Vit\b' "$scratch/out" || fail "no plugins"
start "$found" ./graticule show configs/models/deit_tiny_patch16_224.textproto >/dev/null || fail "no base specs"
start "$found" ./graticule train configs/quickstart.textproto --output="$scratch/run" --set trainer.epochs=1 \
  --set trainer.threads=1 --set trainer.schedule.warmup_epochs=0 --set 'expected[0].min=0' >"$scratch/out" 2>&1 ||
  fail "training: $(<"$scratch/out")"
grep -q 'expected val/top1 ≥ 0: .*, holds' "$scratch/out" || fail "training said: $(<"$scratch/out")"

# From a link elsewhere, by a relative path, with a working directory that has a torch of its own.
mkdir -p "$scratch/elsewhere/torch"
ln -s "$bundle/graticule" "$scratch/elsewhere/graticule"
touch "$scratch/elsewhere/torch/__init__.py"
(cd "$scratch/elsewhere" && start "$found" ./graticule --version >/dev/null) || fail "not from a link"

# All libraries but the runtime of C and C++ are the bundle's or LibTorch's, whatever else lies in LD_LIBRARY_PATH.
mkdir "$scratch/shadow"
cp lib/libprotobuf.so.* "$scratch/shadow/"
loaded=$(LD_LIBRARY_PATH=$scratch/shadow:$torch/lib LD_TRACE_LOADED_OBJECTS=1 bin/graticule)
foreign=$(grep '=> ' <<<"$loaded" | grep -vE "=> ($bundle/bin/\.\./lib|$torch/lib)/" |
  grep -vE '^\s*(lib(c|m|dl|pthread|rt|util|gcc_s|stdc\+\+)\.so\.[0-9]+|ld-linux)' || true)
[[ -z $foreign ]] || fail "libraries from elsewhere: $foreign"

# LibTorch is found in environments and by python3, which are stood for by scripts that print the folder.
python() {
  mkdir -p "$scratch/$1/bin"
  printf '#!/bin/sh\necho %s\n' "$2" >"$scratch/$1/bin/python3"
  chmod +x "$scratch/$1/bin/python3"
}
old=$scratch/old/torch
mkdir -p "$old/lib"
echo "__version__ = '2.10.0+cu128'" >"$old/version.py"
python good "$torch"
python old "$old"
python none ""
python empty "$scratch/empty"
good=$scratch/good
start VIRTUAL_ENV="$good" CONDA_PREFIX="$scratch/old" ./graticule --version >/dev/null || fail "not in VIRTUAL_ENV"
start VIRTUAL_ENV="$scratch/none" CONDA_PREFIX="$good" ./graticule --version >/dev/null || fail "not in CONDA_PREFIX"
start VIRTUAL_ENV="$scratch/old" PATH="$good/bin:/usr/bin:/bin" ./graticule --version >/dev/null || fail "not by python3"

# A real Python: it does not take the working directory's torch for one that is installed.
python_path=PYTHONPATH=$scratch/site-packages
touch "$torch/__init__.py"
(cd "$scratch/elsewhere" && start "$python_path" ./graticule --version >/dev/null) || fail "not by a real python3"

# A torch whose OpenMP has another name: the program's calls reach that one.
renamed=$scratch/renamed/torch
mkdir -p "$scratch/renamed"
cp -r --no-dereference "$torch" "$renamed"
cp --dereference "$torch/lib/libgomp.so.1" "$renamed/lib/libgomp-0123abcd.so.1"
rm "$renamed/lib/libgomp.so.1"
chmod u+w "$renamed/lib/libgomp-0123abcd.so.1"
patchelf --set-soname libgomp-0123abcd.so.1 "$renamed/lib/libgomp-0123abcd.so.1"
start GRATICULE_LIBTORCH="$renamed" LD_DEBUG=bindings LD_DEBUG_OUTPUT="$scratch/bindings" ./graticule --version \
  >/dev/null || fail "not with an OpenMP of another name"
grep -q 'bin/graticule .* to .*/libgomp-0123abcd.so.1 .*`omp_set_num_threads' "$scratch"/bindings.* ||
  fail "another OpenMP than LibTorch's"

refuses 'no LibTorch found' PATH="$scratch/none/bin:/usr/bin:/bin"
refuses "2.11.0 is needed, but there is 2.10.0 in $old;" GRATICULE_LIBTORCH="$old"
refuses "there is none in $scratch/empty;" GRATICULE_LIBTORCH="$scratch/empty"
refuses "there is 2.10.0 in $old, none in $scratch/empty;" VIRTUAL_ENV="$scratch/old" PATH="$scratch/empty/bin:/usr/bin:/bin"
mkdir "$scratch/partial"
cp -r --no-dereference "$torch" "$scratch/partial/"
rm "$scratch/partial/torch/lib/libc10.so"
refuses "$scratch/partial/torch/lib has no libc10.so" GRATICULE_LIBTORCH="$scratch/partial/torch"
cp --dereference "$torch/lib/libc10.so" "$scratch/partial/torch/lib/"
chmod u+w "$scratch/partial/torch/lib/libc10.so"
patchelf --add-needed libabsent.so.1 "$scratch/partial/torch/lib/libc10.so"
refuses 'libraries are missing: libabsent.so.1;' GRATICULE_LIBTORCH="$scratch/partial/torch"
