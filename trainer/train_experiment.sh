#!/usr/bin/env bash
# usage: train_experiment PROGRAM FOLDER ema|"" SPEC ARGUMENTS...
#
# The action behind experiment() (experiment.bzl): trains SPEC by PROGRAM and leaves in FOLDER what does not depend on
# when and where that was. Says nothing, unless the training fails.
set -euo pipefail

program=$1 folder=$2 ema=$3 spec=$4
shift 4

# Columns of metrics.csv that are of the clock.
readonly CLOCK="images_per_second data_wait"

# Beside the outputs, not in /tmp: checkpoints may be large. What a run that was cut off left here must not be resumed.
run=$folder/run
trap 'rm -rf -- "$run" "$run.log"' EXIT
rm -rf -- "$run"
mkdir -p -- "$folder"

fail() {
  cat -- "$run.log"
  echo "experiment: $*"
  exit 1
} >&2

status=0
"$program" train "$spec" --output="$run" "$@" </dev/null >"$run.log" 2>&1 || status=$?

# These lines come once training has ended well; that a bound does not hold is no failure here, but one of NAME_test.
grep '^expected ' "$run.log" >"$folder/expected.txt" || true
if [[ $status != 0 ]] && ! grep -qv ', holds$' "$folder/expected.txt"; then fail "$spec: training failed"; fi
# A training that a signal stopped has ended well too, but before its last step.
reason=$(sed -n 's/^  "exit_reason": "\(.*\)",$/\1/p' "$run/run.json") || true
if [[ $status == 0 && $reason != completed ]]; then fail "$spec: training did not complete: ${reason:-no exit_reason}"; fi

cp -- "$run/experiment.textproto" "$folder/experiment.textproto"
cp -- "$run/checkpoints/last/model.safetensors" "$folder/model.safetensors"
if [[ $ema ]]; then
  cp -- "$run/checkpoints/last/ema.safetensors" "$folder/ema.safetensors" || fail "$spec keeps no moving average of the weights"
fi
awk -F, -v OFS=, -v clock="$CLOCK" '
  NR == 1 {
    split(clock, names, " ")
    for (i in names) of_the_clock[names[i]]
    for (i = 1; i <= NF; ++i) if (!($i in of_the_clock)) kept[++count] = i
  }
  {
    line = $kept[1]
    for (i = 2; i <= count; ++i) line = line OFS $kept[i]
    print line
  }' "$run/metrics.csv" >"$folder/metrics.csv"
