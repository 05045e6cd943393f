#!/usr/bin/env bash
# Issue 19's figures that take a call of a GPU machine each, on a bare CUDA machine with this checkout and .gpu/:
#
#   BUDGET=590 bash tools/gpu_figures.sh PART...
#
#   two      31B on two GPUs, as released and with mm-disabled, custom all-reduce in one server (real_models.py)
#   cost     what traps add to a step (trap_blocks.py --shape SHAPE, by default 26b-a4b), a server on each GPU of GPUS
#            ("0 1"; all) at a time, judged as one run; HOOK_TIMES=60: the first server's last 60 s say what hooks take;
#            AFTER: a file that is waited for before anything is measured
#   rivals   what a user would pick in place of traps, on the 26B shape with 32 requests: groups of servers, one after
#            another where they do not fit beside each other (trap_rivals.py --shape 26b)
#   stall    31B at SWA ratios 0.15 and 0.8, in the whole of a GPU (real_models.py)
#   checks   launches of the device check (60 s), then faults in graphs (240 s) and beside them a soak of SOAK seconds
#            (250), of the kinds of servers in SERVERS (calm,tight; all: benchmarks/soak_servers.py). FAULTS:
#            graph_faults.py's --only
#
# One after the other, on the GPUs of CUDA_VISIBLE_DEVICES; each but checks has what is left of BUDGET. Exit 1 when a
# benchmark's was not 0, 3 without a stack. Two at a time want a G4_WORK and an OUT each. Files in $OUT (default ./out):
# figures.tgz with all that was written, figures.log. What takes longer than a call goes on after it in a session of its
# own, from a copy of the checkout, which the next call would change: cp -r . /tmp/tree; cd /tmp/tree; OUT=/tmp/figures
# BUDGET=1200 setsid bash tools/gpu_figures.sh cost &. The machine is kept by a call every half a minute, and what is
# there fetched by one.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
kept=${OUT:-$PWD/out}
BUDGET=${BUDGET:-590}
SOAK=${SOAK:-250}
SHAPE=${SHAPE:-26b-a4b}
SERVERS=${SERVERS:-calm,tight}
PYTHON=${PYTHON:-python3}
work=${G4_WORK:-/tmp/g4diag-out}/figures
left() { echo $((BUDGET - SECONDS - 15)); }
say() { echo "gpu_figures: $SECONDS s: $*"; }
bench() { # FOLDER SECONDS NAME ARGUMENTS: what it writes and prints goes to a folder of its own
  local folder=$work/$1 limit=$2 name=$3
  shift 3
  mkdir -p "$folder"
  OUT=$folder G4_WORK=$folder/work LIMIT=$((limit + 8)) bash tools/on_gpu.sh exec "$PYTHON" "benchmarks/$name.py" "$@" \
    > "$folder/$name.txt" 2>&1
  local code=$?
  say "$name: exit $code"
  [ "$code" = 0 ] || echo "$name: exit $code" >> "$work/failed"
  tail -n 30 "$folder/$name.txt"
}
two() {
  bench two "$(left)" real_models --only 31b-released,31b-mm-disabled --time-limit $(($(left) - 5)) --out real_two
}
cost() {
  local limit gpu more runs=""
  limit=$(left)
  for gpu in ${GPUS:-$(nvidia-smi --query-gpu=index --format=csv,noheader)}; do
    more=""
    # One server also says what each hook takes, in its last minute.
    [ -z "$runs" ] && [ "${HOOK_TIMES:-0}" != 0 ] && more="--hook-times $HOOK_TIMES"
    # shellcheck disable=SC2086
    CUDA_VISIBLE_DEVICES=$gpu bench "cost$gpu" "$limit" trap_blocks --shape "$SHAPE" --block-steps 25 --cycles 4000 \
      --number "$gpu" --time-limit $((limit - 5)) ${AFTER:+--after "$AFTER"} $more &
    runs="$runs $work/cost$gpu/trap_blocks"
  done
  wait
  # shellcheck disable=SC2086
  OUT=$work bash tools/on_gpu.sh exec "$PYTHON" benchmarks/trap_blocks.py --pool $runs
}
rivals() {
  bench rivals "$(left)" trap_rivals --shape 26b --time-limit $(($(left) - 5)) --sanitizer-seconds 45 \
    --sanitizer-prompt 200
}
stall() {
  bench stall "$(left)" real_models --only 31b-0.15,31b-0.8 --time-limit $(($(left) - 5)) --out real_stall
}
checks() {
  bench checks 60 page_table_check
  bench soak "$(left)" soak --seconds "$SOAK" --servers "$SERVERS" --time-limit $(($(left) - 5)) &
  bench faults 240 graph_faults --time-limit 225 ${FAULTS:+--only "$FAULTS"}
  wait
}
usage() { sed -n '2,/^[^#]/{/^#/p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
main() {
  LIMIT=60 bash tools/on_gpu.sh exec true || { say "no stack"; return 3; }
  rm -f "$work/failed"
  for part in "$@"; do "$part" || echo "$part" >> "$work/failed"; done
  [ ! -e "$work/failed" ]
}
[ $# -gt 0 ] || usage
for part in "$@"; do
  case $part in two | cost | rivals | stall | checks) ;; *) usage ;; esac
done
mkdir -p "$kept" "$work"
main "$@" 2>&1 | tee "$kept/figures.log"
rc=${PIPESTATUS[0]}
# What servers worked in is large, and their logs are in the benchmarks' own files.
tar -czf "$kept/figures.tgz" -C "$work" --exclude=work .
exit "$rc"
