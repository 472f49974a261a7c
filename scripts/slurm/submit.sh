#!/usr/bin/env bash
# Spreads the cells of a reproduction over a Slurm cluster: docs/guide/cluster.md.
set -euo pipefail
# Numbers with a point, whatever the user's language.
export LC_ALL=C

usage() {
    cat <<'END'
Submits the missing cells of a reproduction as a job array, and a job that collects them.

Usage: scripts/slurm/submit.sh [OPTIONS] [-- SBATCH OPTIONS]

  --profile NAME, --only ID, --seeds N, --seed S, --out DIR
                as for `cargo xtask reproduce`; DIR is shared by all nodes
  --tasks N     into how many tasks [default: one for 10 estimated minutes]
  --xtask FILE  this program, already built [default: build it]

What follows `--` goes to sbatch, for both jobs: --partition=short --account=x --time=2:00:00 --mem-per-cpu=2G

Called again, it submits what is still missing.

Exit status: 0 submitted; 2 wrong usage; 3 could not submit.
END
}

fail() {
    printf 'submit.sh: %s\n' "$2" >&2
    exit "$1"
}

profile=paper out='' tasks=0 xtask='' settings=()
while (($#)); do
    case $1 in
    --help) usage && exit 0 ;;
    --) shift && break ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --profile | --only | --seeds | --seed | --out | --tasks | --xtask)
        (($# > 1)) || fail 2 "$1 needs a value"
        case $1 in
        --profile) profile=$2 ;;
        --out) out=$2 ;;
        --tasks) tasks=$2 ;;
        --xtask) xtask=$2 ;;
        *) settings+=("$1" "$2") ;;
        esac
        shift 2
        ;;
    *) fail 2 "unknown option $1; --help lists those that there are" ;;
    esac
done
settings+=(--profile "$profile")
[[ $tasks =~ ^[0-9]{1,9}$ ]] || fail 2 "--tasks $tasks is not a number"
command -v sbatch >/dev/null || fail 3 "sbatch is not here: is this a login node of a Slurm cluster?"

# Jobs may start in another folder.
out=$(realpath -m -- "${out:-results/$profile}")
folder=$out/slurm
scripts=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")")

if [[ -f $folder/jobs ]]; then
    jobs=$(<"$folder/jobs")
    # squeue fails for jobs that ended long ago.
    if queued=$(squeue --noheader --jobs="$jobs" 2>/dev/null) && [[ -n $queued ]]; then
        fail 3 "jobs $jobs of $out have not ended; wait for them, or: scancel ${jobs//,/ }"
    fi
fi

if [[ -z $xtask ]]; then
    # rustup reads the toolchain file of the current folder.
    xtask=$(cd "$scripts" &&
        cargo build --release --package xtask --message-format json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p') || exit 3
fi
[[ -x $xtask ]] || fail 2 "$xtask is not a program"
plan=$("$xtask" reproduce "${settings[@]}" --out "$out" --plan --format json)

# The jobs run a copy of the program, which no later build replaces.
mkdir -p -- "$folder"
cp -- "$xtask" "$folder/xtask.new"
mv -- "$folder/xtask.new" "$folder/xtask"
reproduce=("$folder/xtask" reproduce "${settings[@]}" --out "$out")

# Tasks are numbered from 1, and Slurm wants numbers below MaxArraySize.
limit=$(scontrol show config | awk '$1 == "MaxArraySize" { print $3 - 1 }')
awk -f "$scripts/cells.awk" <<<"$plan" | sort -k1,1gr -k2,2 |
    awk -v tasks="$tasks" -v limit="$limit" -f "$scripts/split.awk" >"$folder/cells"
read -r cells tasks seconds longest < <(awk '
    { sum += $3; load[$1] += $3; if (load[$1] > longest) longest = load[$1]; if ($1 > tasks) tasks = $1 }
    END { printf "%d %d %.0f %.0f\n", NR, tasks, sum, longest }' "$folder/cells")

defaults=(--ntasks=1 --cpus-per-task=1 --requeue)
# sbatch takes only one of --mem, --mem-per-cpu and --mem-per-gpu.
[[ " $*" == *' --mem'* ]] || defaults+=(--mem-per-cpu=1G)
# sbatch prints `JOB` or `JOB;CLUSTER`. In the name of an output file, %% stands for a % sign.
submit() {
    sbatch "${defaults[@]}" "$@" | cut -d';' -f1
}
logs=${folder//%/%%}

dependency=()
if ((cells)); then
    # In minutes. The estimates may be too low for a slow processor.
    minutes=$((10 + 2 * longest / 60))
    array=$(submit --time="$minutes" --job-name=flatmin "$@" --parsable --array="1-$tasks" \
        --output="$logs/task-%A-%a.log" "$scripts/cells.sh" "$folder/cells" "${reproduce[@]}") || exit 3
    printf '%s\n' "$array" >"$folder/jobs"
    dependency=(--dependency="afterany:$array")
fi
collect=$(submit --time=30 --job-name=flatmin-collect "$@" --parsable \
    ${dependency[@]+"${dependency[@]}"} --output="$logs/collect-%j.log" \
    "$scripts/collect.sh" "${reproduce[@]}") || exit 3
jobs=${array:+$array,}$collect
printf '%s\n' "$jobs" >"$folder/jobs"

if ((cells)); then
    printf 'job %s computes %d cells in %d tasks; estimated: %d min on one core, %d min in a task\n' \
        "$array" "$cells" "$tasks" "$((seconds / 60 + 1))" "$((longest / 60 + 1))"
fi
cat <<END
job $collect collects
watch:   squeue --jobs=$jobs
log:     $folder/collect-$collect.log
report:  $out/report.html
If something fails, the same command submits what is missing.
END
