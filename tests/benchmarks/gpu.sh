#!/usr/bin/env bash
# Model FLOP utilisation on a GPU and the ratio to sentence-transformers, for MiniLM and a BERT of base size, in bf16;
# `unpadded` takes flash attention's kernels where flash_attn is installed.
#   tests/benchmarks/gpu.sh                                                       the goals are 45 % and 3
#   ENCODERS=tiny CHUNKS=256 tests/benchmarks/gpu.sh --accelerator cpu --batch 4 --steps 1 --rounds 1    tries itself out
set -euo pipefail
cd "$(dirname "$0")/../.."
for encoder in ${ENCODERS:-minilm base}; do
  for tokens in ${CHUNKS:-8192 32768 65536}; do
    for attention in ${ATTENTION:-sdpa unpadded}; do
      echo "encoder $encoder, chunks of $tokens tokens, attention $attention"
      "${PYTHON:-python}" -m tests.benchmarks.throughput --accelerator gpu --batch 256 --steps 10 --attention "$attention" \
        --precision bf16-mixed --dropout shipped 0 --encoder "$encoder" --tokens_per_chunk "$tokens" "$@"
    done
  done
done
