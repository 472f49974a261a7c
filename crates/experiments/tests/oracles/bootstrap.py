"""Bootstrap intervals of small data sets by numpy, for crates/experiments/src/bootstrap.rs.

Without arguments writes bootstrap.json beside this script; with --check compares it instead.

For each end of an interval the file holds the quantiles of the bootstrap distribution at 4 standard
errors of Monte Carlo around its level, for the 2000 resamples that flatmin draws. An end that lies
outside of them is wrong, but for one in ten thousand.
"""

import json
import math
import pathlib
import sys

import numpy as np

RESAMPLES = 400_000
FLATMIN_RESAMPLES = 2000
LEVELS = (0.025, 0.975)


def case(name, strata, values, statistic):
    """`values` has a row for each seed; seeds are drawn within each of `strata`."""
    rng = np.random.default_rng(7)
    values = np.array(values)
    drawn = np.concatenate(
        [rng.choice(np.array(seeds), size=(RESAMPLES, len(seeds))) for seeds in strata], axis=1
    )
    pooled = values[drawn].reshape(RESAMPLES, -1)
    replicas = {"median": np.median, "mean": np.mean}[statistic](pooled, axis=1)
    slack = 4 * math.sqrt(LEVELS[0] * LEVELS[1] / FLATMIN_RESAMPLES)
    lower, upper = (
        np.quantile(replicas, [level - slack, level + slack], method="inverted_cdf").tolist()
        for level in LEVELS
    )
    return {
        "name": name,
        "strata": strata,
        "values": values.tolist(),
        "statistic": statistic,
        "lower": lower,
        "upper": upper,
    }


def cases():
    rng = np.random.default_rng(1)
    numbers = lambda *shape: np.round(np.exp(rng.normal(size=shape)), 3)
    return [
        case("five seeds", [list(range(5))], numbers(5, 1), "median"),
        case("eleven seeds", [list(range(11))], numbers(11, 1), "median"),
        case("mean of twenty", [list(range(20))], numbers(20, 1), "mean"),
        # Three runs a seed, which differ less within a seed than between seeds.
        case("runs of a seed", [list(range(8))], numbers(8, 1) + 0.1 * numbers(8, 3), "median"),
        case("two strata", [[0, 1, 2, 3, 4], [5, 6, 7]], numbers(8, 1), "mean"),
    ]


def main():
    path = pathlib.Path(__file__).with_suffix(".json")
    found = cases()
    if "--check" not in sys.argv:
        path.write_text(json.dumps(found, indent=1) + "\n")
        return
    differences = sum(old != new for old, new in zip(json.loads(path.read_text()), found, strict=True))
    print(f"{len(found)} cases, {differences} differences")
    sys.exit(differences > 0)


main()
