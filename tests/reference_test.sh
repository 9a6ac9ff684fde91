#!/usr/bin/env bash
# docs/reference.md is what the program says of itself.
set -euo pipefail
if ! diff -u "$2" <("$1" list --markdown); then
  echo "docs/reference.md is out of date: ./graticule list --markdown > docs/reference.md"
  exit 1
fi
