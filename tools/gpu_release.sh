#!/usr/bin/env bash
# The evidence of one release from a machine with one or two GPUs, in two calls, with this checkout and its packed stack:
#
#   BUDGET=560 bash tools/gpu_release.sh scenarios   trtllm-mha-swa, hybrid-wrapper and frozen-draft-fa
#   BUDGET=560 bash tools/gpu_release.sh traps       a soak, and each level on the faulty rule; with two GPUs TP=2 too
#
# What runs at once is spread over both GPUs. SOAK: seconds of the soak's traffic, 300. A call that was cut short goes on
# where it was, on the same machine. Files in $OUT (default ./out): at most 8.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OUT=${OUT:-$PWD/out}
BUDGET=${BUDGET:-560}
SOAK=${SOAK:-300}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" /tmp/g4diag-said
gpus=$(nvidia-smi -L | wc -l)
last=$((gpus > 1 ? 1 : 0))
left() { echo $((BUDGET - SECONDS)); }
say() { echo "gpu_release: $SECONDS s: $*"; }
bench() { # DEVICES NAME ARGUMENTS
  local devices=$1 name=$2
  shift 2
  CUDA_VISIBLE_DEVICES=$devices LIMIT=$(left) bash tools/on_gpu.sh exec "$PYTHON" "benchmarks/$name.py" --time-limit $(($(left) - 25)) "$@"
  say "$name $*: rc $?"
}
scenario() { # DEVICES NAME JOBS
  CUDA_VISIBLE_DEVICES=$1 LIMIT=$(left) bash tools/on_gpu.sh repro "$2" --jobs "$3" --time-limit $(($(left) - 20)) > "/tmp/g4diag-said/$2" 2>&1
  say "$2: rc $?"
  tail -n 30 "/tmp/g4diag-said/$2" | cut -c1-300
  [ ! -f "$OUT/$2.json" ] || rm -f "$OUT/$2-results.jsonl"
}
run_all() {
  LIMIT=60 bash tools/on_gpu.sh exec "$PYTHON" -c 'import torch, sglang; print(torch.__version__, torch.cuda.device_count(), sglang.__version__)' || return 3
  nvidia-smi -L
  case $1 in
  scenarios)
    scenario "$last" frozen-draft-fa 10 &
    scenario 0 trtllm-mha-swa 10
    [ "$(left)" -gt 100 ] && scenario 0 hybrid-wrapper 6
    wait
    ;;
  traps)
    bench "$last" soak --seconds "$SOAK" &
    [ -n "${SOAK_ONLY:-}" ] || bench 0 trap_levels --traps all --port 34000 &
    [ "$gpus" -gt 1 ] && [ -z "${SOAK_ONLY:-}" ] && bench 0,1 trap_levels --traps all --port 37000 --tp-size 2 --only graph-warn,graph-healthy --out tp2 &
    wait
    # 8 files come back, and the tables come first.
    cat "$OUT"/*-logs.txt.gz > "$OUT/logs.gz" && rm "$OUT"/*-logs.txt.gz
    ;;
  esac
}
case ${1:-} in scenarios | traps) ;; *) sed -n '2,9p' "${BASH_SOURCE[0]}" >&2; exit 2 ;; esac
run_all "$1" 2>&1 | tee "$OUT/gpu_release-$1.log"
