#!/usr/bin/env bash
# What experiment() (trainer/experiment.bzl) promises: the same bytes from two builds, a missed bound that fails the test
# and not the build, and the log of a training that fails.
set -euo pipefail

scratch=$(mktemp -d -p "${TEST_TMPDIR:-/tmp}")
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
# shows TEXT FILE: the file has the text.
shows() { grep -qF -- "$1" "$2" || fail "no '$1' in: $(<"$2")"; }

for file in model.safetensors ema.safetensors metrics.csv experiment.textproto expected.txt; do
  cmp "configs/quickstart/$file" "tests/quickstart_again/$file" || fail "two builds of the quickstart differ"
done

# A bound that can't hold: built all the same, with a test that says what was found.
[[ -s tests/missed/model.safetensors ]] || fail "no weights of a run that missed a bound"
if trainer/check_expected.sh tests/missed/expected.txt >"$scratch/out"; then fail "a missed bound passed"; fi
shows 'expected val/top1 ≥ 101: ' "$scratch/out"
shows ', missed' "$scratch/out"

: >"$scratch/nothing.txt"
if trainer/check_expected.sh "$scratch/nothing.txt" >"$scratch/out"; then fail "a spec that expects nothing passed"; fi
shows 'The spec expects nothing' "$scratch/out"

# Programs that stand for Graticule: `program LINES…` writes one of these shell lines. They get train SPEC --output=RUN.
program() {
  printf '%s\n' '#!/usr/bin/env bash' 'set -e; run=${3#--output=}; last=$run/checkpoints/last' "$@" >"$scratch/program"
  chmod +x "$scratch/program"
}
train() { trainer/train_experiment "$scratch/program" "$scratch/files" "$1" spec.textproto --set=a=b >"$scratch/log" 2>&1; }
readonly WRITE='mkdir -p "$last"; touch "$run/experiment.textproto" "$last/model.safetensors"
  printf "step,images_per_second,lr,data_wait\n1,512.5,0.5,0.25\n2,,,\n" >"$run/metrics.csv"
  ended() { printf "{\n  \"name\": \"tiny\",\n  \"exit_reason\": \"%s\",\n  \"step\": 2\n}\n" "$1" >"$run/run.json"; }
  ended completed'

program "$WRITE" 'echo words; [[ $1 == train && $2 == spec.textproto && $4 == --set=a=b ]]; exit 0'
train "" || fail "a good training failed: $(<"$scratch/log")"
[[ ! -s $scratch/log ]] || fail "a good training said: $(<"$scratch/log")"
[[ $(<"$scratch/files/metrics.csv") == $'step,lr\n1,0.5\n2,' ]] || fail "metrics are: $(<"$scratch/files/metrics.csv")"
if train ema; then fail "an average that is not there passed"; fi
shows 'spec.textproto keeps no moving average' "$scratch/log"

program "$WRITE" 'echo "expected val/top1 ≥ 98: 98.5, holds"; echo "out of memory"; exit 1'
if train ""; then fail "a failed training passed"; fi
shows 'out of memory' "$scratch/log"
shows 'spec.textproto: training failed' "$scratch/log"

program "$WRITE" 'ended "error: 1 expectation"; echo "expected val/top1 ≥ 98: 97.5, missed"; exit 1'
train "" || fail "a missed bound failed the training: $(<"$scratch/log")"

# Stopped by a signal, the program has saved what it had and exits with 0.
program "$WRITE" 'ended "stopped by SIGTERM"; echo words; exit 0'
if train ""; then fail "a training that was stopped passed"; fi
shows 'words' "$scratch/log"
shows 'spec.textproto: training did not complete: stopped by SIGTERM' "$scratch/log"

program "$WRITE" 'rm "$run/run.json"'
if train ""; then fail "a training that does not say how it ended passed"; fi
shows 'training did not complete: no exit_reason' "$scratch/log"

# What an earlier run left is not gone on with.
mkdir -p "$scratch/files/run"
touch "$scratch/files/run/stale"
program 'if [[ -e $run/stale ]]; then echo resumed; exit 1; fi' "$WRITE"
train "" || fail "$(<"$scratch/log")"
[[ ! -e $scratch/files/run ]] || fail "the run directory was left"
