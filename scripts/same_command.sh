#!/usr/bin/env bash
# Runs a dozen commands of two programs: scripts/same_command.sh PROGRAM OTHER. Ends with status 1 where
# they do not print the same bytes, write the same files and end with the same status.
set -euo pipefail
if (($# != 2)); then
    echo "usage: $0 PROGRAM OTHER" >&2
    exit 2
fi
programs=("$(realpath -s "$1")" "$(realpath -s "$2")")
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

cat >"$work/run.toml" <<'END'
seed = 3
[model]
kind = "two-layer-relu"
width = 6
[data]
digits = "parity"
sample_count = 60
[optimizer]
learning_rate = 0.01
batch_size = 4
max_steps = 300
END
commands=(
    "--help"
    "analyze --help"
    "train --print-config"
    "completions bash"
    "man pages"
    "train run.toml"
    "train run.toml --resume --format json"
    "metrics run.toml --parameters run/parameters.npz --batch-size 1,4,60 --learning-rate 0.01"
    "metrics run.toml --parameters run/parameters.npz --rank 20 --format json"
    "analyze nowhere.npy"
    "analyze run/parameters.npz --array w --batch-size 1,2 --momentum 0.9 --format json"
    "analyze run/parameters.npz --array w --outputs 2 --sampling reshuffling --trust-input"
    "analyze run/parameters.npz --array w --figure thresholds.svg"
    "train missing.toml"
)
for side in 0 1; do
    mkdir "$work/$side"
    cp "$work/run.toml" "$work/$side"
    for number in "${!commands[@]}"; do
        read -ra words <<<"${commands[number]}"
        status=0
        (cd "$work/$side" && "${programs[side]}" "${words[@]}" >"out-$number" 2>"err-$number") || status=$?
        echo "$status" >"$work/$side/status-$number"
    done
done
diff -r "$work/0" "$work/1"
[[ "$(cat "$work/0/status-6" "$work/0/status-8" "$work/0/status-12" | tr -d '\n')" == 000 ]] ||
    { cat "$work"/0/err-*; exit 1; }
echo "${#commands[@]} commands print and write the same bytes"
