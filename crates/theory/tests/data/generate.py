#!/usr/bin/env python3
"""Reference values for the exact threshold and the bounds beside it, by dense linear algebra.

    generate.py --check [FOLDER ...]           compare the committed values with recomputed ones
    generate.py --new NAME --shape N P --seed S --batches B ... [--kind KIND]

The check covers cases.json and the other JSON files of this folder, or of the folders given. It exits
with status 1 if a value differs by more than rounding.

A new case is one file, NAME.json, with its matrix inside; the tests find it by themselves. KIND is the
law of the entries: gaussian, or pareto for a few dominant rows.

Nothing here uses the Perron form of the threshold, by which flatmin computes it. The matrix is reduced
to its range by a singular value decomposition, the maps of second moments

    C(X) = (GX + XG)/2,    D(X) = (1 - p) GXG + (p/n) sum_i (g_i' X g_i) g_i g_i'

are formed as dense Kronecker products of size r^2 x r^2, and 2/threshold is the largest eigenvalue of
C^(-1/2) D C^(-1/2). Data are scaled by a power of two first, so that entries of 1e-150 and 1e150 are not
special. `threshold_decimal`, where a case has it, was computed with 50 digits; it is compared to double
precision here, and digits.py in ../oracles has thresholds to 55 digits by a route of its own.
"""

import argparse
import json
import math
import pathlib
import struct
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent
EPSILON = float(np.finfo(np.float64).eps)
INFINITE = {"inf": math.inf}

# Relative tolerances: of the values without one of their own, and of those that are sums of few numbers.
BOUND, SHARPNESS, ALIGNMENT = 1e-11, 1e-12, 1e-9


def safetensors(path, name):
    """An array of a .safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    entry = json.loads(raw[8 : 8 + length])[name]
    first, end = entry["data_offsets"]
    kind = {"F32": "<f4", "F64": "<f8"}[entry["dtype"]]
    return np.frombuffer(raw[8 + length :][first:end], kind).reshape(entry["shape"])


def matrix(case, folder):
    """The matrix of a case: inside of it, or in the file that it names."""
    if "matrix" in case:
        return np.array(case["matrix"], dtype=np.float64)
    path, name = folder / case["file"], case.get("array")
    if path.suffix == ".safetensors":
        array = safetensors(path, name)
    else:
        array = np.load(path)
        array = array[name] if path.suffix == ".npz" else array
    return np.asarray(array, dtype=np.float64)


def reduced(values, kind):
    """Rows in an orthonormal basis of their span, the eigenvalues of G, U of K = U diag(.) U', and the rank."""
    n = len(values)
    if kind == "gram":
        squares, vectors = np.linalg.eigh((values + values.T) / 2)
        squares, vectors = squares[::-1], vectors[:, ::-1]
        kept = squares > n * EPSILON * max(squares[0], 0.0)
        lengths = np.sqrt(squares[kept])
    else:
        vectors, lengths, _ = np.linalg.svd(values, full_matrices=False)
        kept = lengths > max(values.shape) * EPSILON * lengths[0]
        lengths = lengths[kept]
    vectors = vectors[:, kept]
    return vectors * lengths, lengths**2 / n, vectors


def dense_threshold(rows, eigenvalues, p):
    """2 / the largest eigenvalue of C^(-1/2) D C^(-1/2), in the basis in which G is diagonal."""
    n, r = rows.shape
    gauss_newton, identity = np.diag(eigenvalues), np.eye(r)
    c = np.diag(np.kron(gauss_newton, identity) + np.kron(identity, gauss_newton)) / 2
    d = (1 - p) * np.kron(gauss_newton, gauss_newton)
    for row in rows:
        outer = np.outer(row, row)
        d += p / n * np.kron(outer, outer)
    root = np.sqrt(c)
    return 2 / np.linalg.eigvalsh(d / np.outer(root, root))[-1]


def spectral(eigenvalues, p):
    """The learning rate at which sum_k eta l_k / (2 - (1 - p) eta l_k) = 1/p, by bisection (S6)."""
    pole = 2 / eigenvalues[0]
    if p == 0:
        return pole
    low, high = 0.0, min(pole / (1 - p) if p < 1 else math.inf, 2 / (p * eigenvalues.sum()))
    for _ in range(200):
        middle = (low + high) / 2
        gap = 2 - (1 - p) * middle * eigenvalues
        is_below = gap.min() > 0 and (middle * eigenvalues / gap).sum() < 1 / p
        low, high = (middle, high) if is_below else (low, middle)
    return low


def over(numerator, denominator):
    return numerator / denominator if denominator > 0 else math.inf


def reference(values, kind, batch_size, sampling):
    """All reference values of a case."""
    n = len(values)
    if sampling == "with_replacement":
        p = 1 / batch_size
    else:
        # One sample: 0/0, and 0 by convention.
        p = (n - batch_size) / (batch_size * (n - 1)) if n > 1 else 0.0
    largest = np.abs(values).max()
    if largest == 0:
        infinite = ["threshold", "s2", "s3", "s3_sharp", "s4_centered", "s4_chi_min_corrected"]
        found = dict.fromkeys(infinite + ["s5", "s6", "s7"], math.inf)
        zero = ["trace", "frobenius_norm", "lambda_max", "max_row_norm_sq", "rank"]
        return found | dict.fromkeys(zero, 0.0) | {"noise_coefficient": p}
    # The square of this is the unit of all squared sizes.
    exponent = math.frexp(largest)[1]
    if kind == "gram":
        exponent = 2 * (exponent // 2)
        scaled, unit = np.ldexp(values, -exponent), 2.0**exponent
    else:
        scaled, unit = np.ldexp(values, -exponent), math.ldexp(1.0, 2 * exponent)
    rows, eigenvalues, vectors = reduced(scaled, kind)
    gram = scaled if kind == "gram" else scaled @ scaled.T
    lengths = np.diag(gram)
    trace, frobenius, top = lengths.sum() / n, np.linalg.norm(gram) / n, eigenvalues[0]
    # g_i' G g_i = |J g_i|^2 / n
    curvatures = (gram**2).sum(axis=1) / n
    chi = curvatures / frobenius**2
    noise = vectors.T @ (curvatures[:, None] * vectors) - np.diag(eigenvalues**2)
    aligned = max(np.linalg.eigvalsh(noise)[0] / frobenius**2, 0.0)
    aligned = aligned if aligned >= 1e-12 else 0.0
    sharp = over(1, math.sqrt(p * (1 - p)) * frobenius) if p <= 0.5 else 2 / frobenius
    rates = {
        "threshold": dense_threshold(rows, eigenvalues, p),
        "s2": over(2, p * trace),
        "s3": over(2, math.sqrt(p) * frobenius),
        "s3_sharp": sharp,
        "s4_chi_min": over(1, frobenius * math.sqrt(p * chi.min())),
        "s4_chi_min_corrected": over(sharp, math.sqrt(chi.min())),
        "s4_centered": over(1, frobenius * math.sqrt(p * aligned)),
        "s5": 2 / top,
        "s6": spectral(eigenvalues, p),
        "s7": 2 / ((1 - p) * top + p * lengths.max()),
    }
    sizes = {
        "trace": trace,
        "frobenius_norm": frobenius,
        "lambda_max": top,
        "max_row_norm_sq": lengths.max(),
    }
    plain = {
        "noise_coefficient": p,
        "rank": len(eigenvalues),
        "chi_min": chi.min(),
        "chi_max": chi.max(),
        "centered_alignment_min": aligned,
        "condition_number": eigenvalues[0] / eigenvalues[-1],
    }
    rates = {name: float(rate / unit) for name, rate in rates.items()}
    return rates | {name: float(size * unit) for name, size in sizes.items()} | plain


def tolerance(case, field):
    """The relative tolerance of a field; none where the field is not determined to that precision."""
    if field == "threshold":
        return case["rel_tol"]
    is_singular = (case["condition_number"] or 1.0) > 1e10
    if field in ("rank", "condition_number", "chi_min", "s4_chi_min", "s4_chi_min_corrected") and is_singular:
        return None
    if field in ("centered_alignment_min", "s4_centered"):
        is_small = (case["centered_alignment_min"] or 0.0) <= 1e-6
        return None if is_small or is_singular else ALIGNMENT
    if field == "condition_number":
        return max(1e-10, 1e3 * EPSILON * case["condition_number"])
    return SHARPNESS if field in ("trace", "frobenius_norm", "lambda_max", "max_row_norm_sq", "rank") else BOUND


def differences(case, folder):
    """The fields of a case that differ from their recomputed values, as lines of text."""
    found = reference(matrix(case, folder), case["kind"], case["batch_size"], case["sampling"])
    found["threshold_decimal"] = found["threshold"]
    for field, value in found.items():
        expected = case.get(field)
        if expected is None:
            continue
        expected = float(INFINITE.get(expected, expected))
        allowed = case["rel_tol"] if field == "threshold_decimal" else tolerance(case, field)
        if allowed is None or value == expected:
            continue
        if not abs(value - expected) <= allowed * abs(expected):
            yield f"{case['id']}: {field} is {value!r}, committed {expected!r}"


def cases(folder):
    """Every case of a folder. A file of its own holds a matrix and the list of its cases."""
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        if isinstance(document, list):
            yield from document
        else:
            for case in document["cases"]:
                yield case | {"matrix": document["matrix"], "kind": document["kind"]}


def check(folders):
    count, lines = 0, []
    for folder in folders:
        for case in cases(folder):
            count += 1
            lines += differences(case, folder)
    print("\n".join(lines + [f"{count} cases, {len(lines)} differences"]))
    return 1 if lines or count == 0 else 0


def new(arguments):
    """Writes a case as one file, its entries rounded to multiples of 2^-20."""
    generator = np.random.default_rng(arguments.seed)
    values = generator.standard_normal(arguments.shape)
    if arguments.kind == "pareto":
        values *= generator.pareto(1.5, (arguments.shape[0], 1)) + 1
    values = np.round(np.ldexp(values, 20)) / 2**20
    found = []
    for batch_size in arguments.batches:
        for sampling, short in [("without_replacement", "wo"), ("with_replacement", "wr")]:
            if sampling == "without_replacement" and batch_size > len(values):
                continue
            case = {"id": f"{arguments.new}__B{batch_size}_{short}", "n": len(values), "batch_size": batch_size}
            case |= {"sampling": sampling, "rel_tol": 1e-11}
            fields = reference(values, "jacobian", batch_size, sampling)
            text = {name: "inf" if value == math.inf else value for name, value in fields.items()}
            found.append(case | text)
    rows, lines = (",\n  ".join(map(json.dumps, entries)) for entries in (values.tolist(), found))
    path = FOLDER / f"{arguments.new}.json"
    path.write_text(
        f'{{"made_by": {json.dumps(" ".join(sys.argv[1:]))}, "kind": "jacobian",\n'
        f' "matrix": [\n  {rows}],\n "cases": [\n  {lines}]}}\n'
    )
    print(path.name)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("folders", nargs="*", type=pathlib.Path, default=[FOLDER])
    parser.add_argument("--new", metavar="NAME")
    parser.add_argument("--shape", nargs=2, type=int, default=[6, 8], metavar=("N", "P"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--kind", choices=["gaussian", "pareto"], default="gaussian")
    arguments = parser.parse_args()
    if arguments.new:
        return new(arguments)
    return check(arguments.folders)


if __name__ == "__main__":
    sys.exit(main())
