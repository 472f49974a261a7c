#!/usr/bin/env bash
# A task of the array: computes its cells of a list, as many at once as it has processors. A cell that fails, or is
# killed for its memory, does not keep the others from being computed; xargs alone stops at one that is killed.
# Arguments: the list, of lines `TASK HASH SECONDS`; the command that takes `--cell HASH`.
set -euo pipefail
# shellcheck disable=SC2016 # They are for the inner shell.
awk -v task="$SLURM_ARRAY_TASK_ID" '$1 == task { print $2 }' "$1" |
    xargs -n 1 -P "${SLURM_CPUS_PER_TASK:-1}" bash -c \
        '"$@" || { echo "cell ${*: -1} is not computed: exit status $?" >&2; exit 1; }' \
        cell "${@:2}" --cell
