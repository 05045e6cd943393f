#!/usr/bin/env bash
# Run g4diag, or any command, with the whole stack on a bare CUDA machine that has this checkout and .gpu/ (make gpu-pack).
#
#   bash tools/on_gpu.sh repro SCENARIO [options]   real servers; text on stdout; report, results and logs in $OUT
#   bash tools/on_gpu.sh exec COMMAND...            COMMAND with the same environment (a benchmark, pytest tests/gpu)
#   bash tools/on_gpu.sh receive NN                 keep the part in .gpu/qNN: a release that needs another torch than
#                                                   the machine's, as 0.5.23 does, comes in parts
#
# A part at a time, since what travels is limited: carry .gpu/qNN, receive NN; again for the next. After the last one,
# repro and exec find all of them in $PARTS and unpack once.
# LIMIT: seconds for all of it, 560 by default; then servers are ended and what came so far is kept. Results of an
# earlier run are not repeated: those of this machine, and .gpu/NAME-results.jsonl brought from another.
# TAG: keeps this run's files apart from those of another with the same scenario; NAME is SCENARIO[-TAG].
# Files in $OUT (default ./out): NAME.json, NAME-results.jsonl, NAME-logs.txt.gz.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SITE=${G4_SITE:-/tmp/g4diag-site}
WORK=${G4_WORK:-/tmp/g4diag-out}
PARTS=${PARTS:-/tmp/g4diag-parts}
OUT=${OUT:-$PWD/out}
LIMIT=${LIMIT:-560}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" "$WORK"

fail() { echo "on_gpu: $1" >&2; exit 3; }

unpack() {
  [ -e "$SITE/.complete" ] && return 0
  mkdir -p "$SITE"
  if ls "$PARTS"/part.* >/dev/null 2>&1; then
    # As many as were made: a missing one would be a torn archive.
    [ "$(ls "$PARTS"/part.* | wc -l)" = "$(cat "$PARTS/count")" ] || fail "wanted $(cat "$PARTS/count") parts in $PARTS, found $(ls "$PARTS"/part.* | wc -l)"
    cat "$PARTS"/part.* | XZ_DEFAULTS=-T0 tar -xJf - -C "$SITE" || exit 3
  else
    [ -f .gpu/site.tar.xz ] || fail "wanted .gpu/site.tar.xz or parts in $PARTS, found neither; run make gpu-pack, carry .gpu"
    XZ_DEFAULTS=-T0 tar -xJf .gpu/site.tar.xz -C "$SITE" || exit 3
  fi
  if ! "$PYTHON" -c 'import IPython' 2>/dev/null; then
    # sglang.utils imports two names of it and uses neither here.
    mkdir -p "$SITE/IPython"
    echo '"""Stand-in: see tools/on_gpu.sh."""' > "$SITE/IPython/__init__.py"
    printf '"""Stand-in: see tools/on_gpu.sh."""\nHTML = display = None\n' > "$SITE/IPython/display.py"
  fi
  "$PYTHON" -c 'import sys; from pathlib import Path; from g4diag.servers.plugin_site import write_dist_info
write_dist_info(Path(sys.argv[1]))' "$SITE" || exit 3
  touch "$SITE/.complete"
}

mode=${1:-}
[ $# -gt 0 ] && shift
if [ "$mode" = receive ]; then
  mkdir -p "$PARTS" && cp ".gpu/q${1:?which part}"/* "$PARTS/" && ls "$PARTS" | wc -l
  exit
fi
host=$(env -u PYTHONPATH "$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
export PYTHONPATH=$SITE:$SITE/nvidia_cutlass_dsl/dsl_packages:$PWD PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 SGLANG_PLUGINS=g4diag
start=$SECONDS
unpack
echo "on_gpu: unpacked after $((SECONDS - start)) s" >&2
if [ -d "$SITE/torch" ]; then
  # Its torch finds the machine's CUDA libraries, and its own NCCL before the machine's, which is older.
  export LD_LIBRARY_PATH=$SITE/nvidia/nccl/lib:$(ls -d "$host"/nvidia/*/lib | tr '\n' ':')${LD_LIBRARY_PATH:-}
fi
case $mode in
exec)
  timeout --kill-after=15 "$LIMIT" "$@"
  ;;
repro)
  name=${1:?which scenario}
  file=$name${TAG:+-$TAG}
  folder=$WORK/$file
  mkdir -p "$folder"
  if [ ! -e "$folder/results.jsonl" ] && [ -f ".gpu/$file-results.jsonl" ]; then
    cp ".gpu/$file-results.jsonl" "$folder/results.jsonl"
  fi
  keep() {
    [ -f "$folder/results.jsonl" ] && cp "$folder/results.jsonl" "$OUT/$file-results.jsonl"
    [ -f "$folder/report.json" ] && cp "$folder/report.json" "$OUT/$file.json"
    [ -f "$folder/logs.txt" ] && gzip -c "$folder/logs.txt" > "$OUT/$file-logs.txt.gz"
  }
  trap keep EXIT
  ( while sleep 10; do keep; done ) &
  keeper=$!
  timeout --kill-after=15 "$LIMIT" "$PYTHON" -m g4diag repro "$@" --device cuda --out "$folder"
  rc=$?
  kill "$keeper" 2>/dev/null
  exit "$rc"
  ;;
*)
  sed -n '2,16p' "${BASH_SOURCE[0]}" >&2
  exit 2
  ;;
esac
