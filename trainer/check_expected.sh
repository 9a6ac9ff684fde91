#!/usr/bin/env bash
# usage: check_expected FILE
#
# NAME_test of experiment() (experiment.bzl): shows the lines of NAME/expected.txt, and fails where one does not hold.
set -euo pipefail

cat -- "$1"
if [[ ! -s $1 ]]; then
  echo "The spec expects nothing: give it an \`expected\`, or the target \`test = False\`."
  exit 1
fi
! grep -qv ', holds$' "$1"
