#!/usr/bin/env bash
# The traps' evidence from one GPU, in one go, on a bare CUDA machine with this checkout and .gpu/ (make gpu-pack):
#
#   BUDGET=560 bash tools/gpu_traps.sh
#
# The soak (SOAK seconds of traffic, 300) runs behind everything. In front of it first the six faulty servers and the
# healthy one (trap_levels), then the start of the servers that are timed (trap_overhead), tiny then 26b; they are
# timed only when the soak is over, one at a time, until BUDGET is spent.
# Files in $OUT (default ./out), at most 7: soak.json, trap_levels.json, trap_overhead.json, h100-*.pt, logs.txt.gz,
# gpu_traps.log. SKIP=soak,levels,overhead leaves parts out.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export OUT=${OUT:-$PWD/out}
export G4_WORK=${G4_WORK:-/tmp/g4diag-out}
BUDGET=${BUDGET:-560}
SOAK=${SOAK:-300}
SKIP=${SKIP:-}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" "$G4_WORK"
go=$G4_WORK/timing-may-begin
rm -f "$go"
left() { echo $((BUDGET - SECONDS)); }
say() { echo "gpu_traps: $SECONDS s: $*"; }
wanted() { case ",$SKIP," in *",$1,"*) return 1 ;; esac; }
bench() { # NAME SECONDS ARGUMENTS: under its own limit, with a little for its last words
  local name=$1 limit=$2
  shift 2
  LIMIT=$((limit + 20)) bash tools/on_gpu.sh exec "$PYTHON" "benchmarks/$name.py" --time-limit "$limit" "$@"
}
run_all() {
  LIMIT=60 bash tools/on_gpu.sh exec true || { say "no stack"; return 3; }
  if wanted soak; then
    # The rest is its start, beside eight others, and its last requests.
    bench soak $((SOAK + 200 < $(left) - 30 ? SOAK + 200 : $(left) - 30)) --seconds "$SOAK" &
    soak=$!
    sleep 4
  fi
  if wanted levels; then
    limit=$(($(left) - 300))
    bench trap_levels $((limit > 240 ? 240 : limit < 60 ? 60 : limit))
    say "trap_levels rc $?"
  fi
  if wanted overhead; then
    bench trap_overhead $(($(left) - 25)) --wait-for "$go" --shape "${SHAPES:-tiny,26b}" &
    overhead=$!
  fi
  if wanted soak; then
    wait "$soak"
    say "soak rc $?"
  fi
  touch "$go"
  if wanted overhead; then
    wait "$overhead"
    say "trap_overhead rc $?"
  fi
}
run_all 2>&1 | tee "$OUT/gpu_traps.log"
for part in soak trap_levels trap_overhead; do
  if [ -f "$OUT/$part-logs.txt.gz" ]; then
    cat "$OUT/$part-logs.txt.gz" >> "$OUT/logs.txt.gz" && rm "$OUT/$part-logs.txt.gz"
  fi
done
say "done: $(ls "$OUT" | tr '\n' ' ')"
