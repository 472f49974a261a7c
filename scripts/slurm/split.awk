# Splits cells, given as `SECONDS HASH` and longest first, into tasks that take about equally long: each goes
# to the task with the least so far. `tasks` is how many, 0 for one in 600 s; `limit` is the most. Writes
# `TASK HASH SECONDS`.
{
    seconds[NR] = $1
    hash[NR] = $2
    total += $1
}
END {
    if (tasks == 0) tasks = int(total / 600) + 1
    if (tasks > limit) tasks = limit
    if (tasks > NR) tasks = NR
    for (cell = 1; cell <= NR; cell++) {
        least = 1
        for (task = 2; task <= tasks; task++) if (load[task] < load[least]) least = task
        load[least] += seconds[cell]
        print least, hash[cell], seconds[cell]
    }
}
