#!/usr/bin/env bash
# Writes tables, figures, claims and report from the stored cells. If cells are missing, it lists them and computes
# nothing: first find the cause, and one processor may not be enough.
# Arguments: the command that reproduces.
set -euo pipefail
missing=$("$@" --plan)
if [[ -n $missing ]]; then
    printf '%s\n' "$missing"
    printf '%d cells are missing: the logs of the tasks say why; submit.sh submits them again\n' \
        "$(wc -l <<<"$missing")"
    exit 3
fi
exec "$@" --threads "${SLURM_CPUS_PER_TASK:-1}"
