#!/usr/bin/env bash
# Run g4diag, or any command, with the whole stack on a bare CUDA machine that has this checkout and .gpu/ (make gpu-pack).
#
#   bash tools/on_gpu.sh repro SCENARIO [options]   real servers; text on stdout; report, results and logs in $OUT
#   bash tools/on_gpu.sh exec COMMAND...            COMMAND with the same environment (a benchmark, pytest tests/gpu)
#
# LIMIT: seconds for all of it, 560 by default; then servers are ended and what came so far is kept. Results of an
# earlier run are not repeated: those of this machine, and .gpu/NAME-results.jsonl brought from another.
# TAG: keeps this run's files apart from those of another with the same scenario; NAME is SCENARIO[-TAG].
# Files in $OUT (default ./out): NAME.json, NAME-results.jsonl, NAME-logs.txt.gz.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SITE=${G4_SITE:-/tmp/g4diag-site}
WORK=${G4_WORK:-/tmp/g4diag-out}
OUT=${OUT:-$PWD/out}
LIMIT=${LIMIT:-560}
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" "$WORK"

unpack() {
  [ -e "$SITE/.complete" ] && return 0
  [ -f .gpu/site.tar.xz ] || { echo "on_gpu: wanted .gpu/site.tar.xz, found none; run make gpu-pack, carry .gpu" >&2; exit 3; }
  mkdir -p "$SITE" && XZ_DEFAULTS=-T0 tar -xJf .gpu/site.tar.xz -C "$SITE" || exit 3
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

export PYTHONPATH=$SITE:$PWD PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 SGLANG_PLUGINS=g4diag
start=$SECONDS
unpack
echo "on_gpu: unpacked after $((SECONDS - start)) s" >&2
mode=${1:-}
[ $# -gt 0 ] && shift
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
  sed -n '2,11p' "${BASH_SOURCE[0]}" >&2
  exit 2
  ;;
esac
