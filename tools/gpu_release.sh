#!/usr/bin/env bash
# The evidence of one release from a machine with one or two GPUs, in two calls, with this checkout and its packed stack:
#
#   BUDGET=560 bash tools/gpu_release.sh scenarios   trtllm-mha-swa, then hybrid-wrapper; a soak behind them
#   BUDGET=560 bash tools/gpu_release.sh traps       each level on the faulty rule; with two GPUs, TP=2 beside it
#
# With two GPUs the soak has one of them to itself. SOAK: seconds of its traffic, 300; 0 leaves it out.
# Files in $OUT (default ./out), at most 8.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OUT=${OUT:-$PWD/out}
BUDGET=${BUDGET:-560}
SOAK=${SOAK:-300}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT"
gpus=$(nvidia-smi -L | wc -l)
last=$((gpus > 1 ? 1 : 0))
left() { echo $((BUDGET - SECONDS)); }
say() { echo "gpu_release: $SECONDS s: $*"; }
bench() { # DEVICES NAME ARGUMENTS
  local devices=$1 name=$2
  shift 2
  CUDA_VISIBLE_DEVICES=$devices LIMIT=$(left) bash tools/on_gpu.sh exec "$PYTHON" "benchmarks/$name.py" --time-limit $(($(left) - 25)) "$@"
}
scenario() { # NAME JOBS
  CUDA_VISIBLE_DEVICES=0 LIMIT=$(left) bash tools/on_gpu.sh repro "$1" --jobs "$2" --time-limit $(($(left) - 20)) --json > "$OUT/$1.txt" 2> "$OUT/$1.err"
  say "$1: rc $?"
  tail -n 3 "$OUT/$1.err" | cut -c1-600
  rm -f "$OUT/$1.txt" "$OUT/$1.err"
  [ ! -f "$OUT/$1.json" ] || rm -f "$OUT/$1-results.jsonl"
}
run_all() {
  LIMIT=60 bash tools/on_gpu.sh exec "$PYTHON" -c 'import torch, sglang; print(torch.__version__, torch.cuda.device_count(), sglang.__version__)' || return 3
  say "$gpus GPUs"
  case $1 in
  scenarios)
    if [ "$SOAK" -gt 0 ]; then
      bench "$last" soak --seconds "$SOAK" &
      sleep 4
    fi
    scenario trtllm-mha-swa 10
    [ "$(left)" -gt 100 ] && scenario hybrid-wrapper 6
    wait
    ;;
  traps)
    bench 0 trap_levels --traps all --port 34000 &
    [ "$gpus" -gt 1 ] && bench 0,1 trap_levels --traps all --port 37000 --tp-size 2 --only graph-warn,graph-healthy --out tp2 &
    wait
    ;;
  esac
}
case ${1:-} in scenarios | traps) ;; *) sed -n '2,9p' "${BASH_SOURCE[0]}" >&2; exit 2 ;; esac
run_all "$1" 2>&1 | tee "$OUT/gpu_release.log"
