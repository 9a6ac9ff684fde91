#!/bin/bash
# Models go from timm into the program and back, where Python has timm; elsewhere it says so and passes. PYTHON names
# another interpreter: bazel test --test_env=PYTHON=VENV/bin/python //tests:timm_test
set -euo pipefail
python="${PYTHON:-python3}"
if ! "$python" -c "import safetensors.torch, timm, torch"; then
  echo "SKIPPED: $python has no timm"
  exit 0
fi
OMP_NUM_THREADS=1 "$python" "$1" --program="$2" deit_tiny_patch16_224 "vit_tiny_patch16_224 with average pooling"
