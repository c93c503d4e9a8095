#!/usr/bin/env bash
# Native against PyTorch on the card of this machine, T5 base in bfloat16, in under 8 minutes:
#   benchmarks/gpu.sh [gpu.json] [flags of benchmarks/gpu_train.py]
# Needs jax with CUDA, flax, optax, orbax-checkpoint, torch and transformers of PYTHON (python3),
# and this repository. Prints a table and writes the JSON file.
set -euo pipefail
out=$(realpath -m "${1:-gpu.json}")
shift || true
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" benchmarks/gpu_train.py \
    --out "$out" --attention "$@"
