#!/usr/bin/env bash
# Runs the fuzz targets, two at a time: scripts/fuzz.sh [SECONDS [TARGET ...]]; all of them for 600 s by
# default. Ends with status 1 when an input makes a reader crash, take longer than a second or more than
# 1 GiB; the input is then in fuzz/artifacts and belongs in fuzz/corpus once the defect is fixed.
#
# Needs cargo-fuzz (cargo install cargo-fuzz --locked) and a C++ compiler. The flags of cargo-fuzz are
# unstable: RUSTC_BOOTSTRAP makes the pinned compiler accept them, so that the usual compiler builds the targets.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1

seconds="${1:-600}"
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then
    for file in fuzz/fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi

# The readers have no unsafe code for a sanitizer to watch.
cargo fuzz build --sanitizer none
binaries="fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release"
# New inputs are kept, but not in the folder that is checked in.
work="fuzz/target/corpus"

one() {
    mkdir -p "$work/$1" "fuzz/artifacts/$1"
    # Files that are read lie in memory, where possible.
    [[ -d /dev/shm && -w /dev/shm ]] && export TMPDIR=/dev/shm
    "$binaries/$1" "$work/$1" "fuzz/corpus/$1" -max_total_time="$seconds" -timeout=1 \
        -rss_limit_mb=1024 -max_len=8192 -artifact_prefix="fuzz/artifacts/$1/" \
        >"$work/$1.log" 2>&1 || { printf '%s: see %s and fuzz/artifacts/%s\n' "$1" "$work/$1.log" "$1"; return 1; }
    printf '%s: %s\n' "$1" "$(grep -o 'Done .*' "$work/$1.log")"
}

export -f one
export binaries work seconds
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -c 'one {}' || { echo 'something was found'; exit 1; }
