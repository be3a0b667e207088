#!/usr/bin/env bash
# What a session on a GPU should find out, as a Markdown report, in at most 15 minutes.
#   tests/benchmarks/gpu.sh | tee report.md                         the goals are 45 % of the peak and a ratio of 3
#   PARTS="mfu loader" tests/benchmarks/gpu.sh --steps 20           some parts; options of gpu_parts.py go to each
#   ENCODERS="tiny tiny_qwen3" CHUNKS=256 tests/benchmarks/gpu.sh --accelerator cpu --batch 4 --steps 1 --warmup 1 \
#     --rounds 1                                                    tries itself out on a CPU
# Each part has its own time limit, in seconds below, so a part that fails or hangs costs no other one. Starting Python takes
# 20 s of each on a new machine. The order is by importance. Exit code 1 if a part failed.
set -uo pipefail
cd "$(dirname "$0")/../.."
declare -A limits=([machine]=60 [mfu]=240 [attention]=120 [loader]=90 [syncs]=70 [peer]=140 [ddp]=120 [losses]=60)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONWARNINGS=ignore PYTHONUNBUFFERED=1
options=(--work "$work" --encoders ${ENCODERS:-minilm base qwen3} --chunks ${CHUNKS:-8192 32768 131072})
failed=0
for part in ${PARTS:-machine mfu attention loader syncs peer ddp losses}; do
  SECONDS=0
  limit=${limits[$part]:-60}
  timeout --kill-after=5 "$limit" "${PYTHON:-python}" -m tests.benchmarks.gpu_parts "$part" "${options[@]}" \
    "$@" 2>"$work/errors"
  code=$?
  printf '\n%s: %d s of at most %d\n' "$part" "$SECONDS" "$limit"
  if [ "$code" -ne 0 ]; then
    failed=1
    [ "$code" -eq 124 ] || [ "$code" -eq 137 ] && why="stopped at its time limit" || why="failed with exit code $code"
    printf '\n**%s %s**; the end of its error output:\n\n```\n%s\n```\n' "$part" "$why" "$(tail -n 25 "$work/errors")"
  fi
done
exit "$failed"
