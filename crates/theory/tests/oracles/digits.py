"""Writes `digits.json`: thresholds of small Jacobians to 55 digits, from the plain definition.

    python3 digits.py > digits.json

Only the standard library is used. For a state δ on the range of G (with momentum, δ and v) a step with a batch is
a matrix A, and second moments follow T(X) = E[A X Aᵀ]. Here the expectation is the average over every batch there
is, by enumeration, so that no noise coefficient enters; the range of G is found by elimination in fractions; the
rest is elimination in 120 digits. T keeps the cone of positive semidefinite matrices, so that its spectral radius
is below 1 exactly where the solution of X − T(X) = I is positive definite. That is tested 10⁻⁵⁵ below and above
every value written, and at points from there down to zero.

Nothing is shared with flatmin: no Gram matrix, no eigenvalue, no Perron problem, no binary floating point.
"""

import itertools
import json
import math
import random
import sys
from collections import Counter
from decimal import Context, Decimal, getcontext, setcontext
from fractions import Fraction

setcontext(Context(prec=120, Emin=-99999, Emax=99999))


def decimal(fraction):
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


# ---------------------------------------------------------------------------------------------------- Jacobians


def gaussian(rng, n, p):
    return [[rng.gauss(0.0, 1.0) for _ in range(p)] for _ in range(n)]


def product(a, b):
    """A product in double precision: its rounded entries are the case."""
    return [[math.fsum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def orthogonal(rng, n):
    rows = []
    for row in gaussian(rng, n, n):
        for other in rows:
            inner = math.fsum(x * y for x, y in zip(row, other))
            row = [x - inner * y for x, y in zip(row, other)]
        norm = math.sqrt(math.fsum(x * x for x in row))
        rows.append([x / norm for x in row])
    return rows


def with_singular_values(rng, values):
    n = len(values)
    stretched = [[value * x for x in row] for value, row in zip(values, orthogonal(rng, n))]
    return product(orthogonal(rng, n), stretched)


def jacobians():
    """Name, outputs, rows."""
    rng = random.Random(1)
    for n, p in [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2), (3, 3), (4, 4), (5, 3), (5, 2)]:
        yield f"gaussian {n} × {p}", 1, gaussian(rng, n, p)
    integers = [[1.0, 2.0], [-1.0, 1.0], [3.0, 0.0], [0.0, -2.0]]
    yield "rank 2 exactly, 4 × 4", 1, product(integers, [[1.0, 0.0, 2.0, -1.0], [0.0, 1.0, 1.0, 3.0]])
    yield "rank 2 but for rounding, 4 × 3", 1, product(gaussian(rng, 4, 2), gaussian(rng, 2, 3))
    a, b = gaussian(rng, 2, 3)
    yield "two gradients, repeated, 5 × 3", 1, [a, b, a, a, b]
    yield "zero gradients, 4 × 3", 1, [a, [0.0] * 3, b, [0.0] * 3]
    yield "nearly equal gradients, 3 × 3", 1, [[x + 1e-9 * rng.gauss(0, 1) for x in a] for _ in range(3)]
    yield "nearly orthonormal gradients, 4 × 4", 1, [
        [(i == j) + 1e-7 * rng.gauss(0, 1) for j in range(4)] for i in range(4)
    ]
    yield "orthogonal gradients, 3 × 3", 1, [[2.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]]
    yield "singular values 1, 1e-4, 1e-8", 1, with_singular_values(rng, [1.0, 1e-4, 1e-8])
    yield "singular values 1, 1, 1e-8, 1e-8", 1, with_singular_values(rng, [1.0, 1.0, 1e-8, 1e-8])
    yield "rows of length 1 to 1e-8, 4 × 3", 1, [
        [10.0 ** (-8 * i / 3) * x for x in row] for i, row in enumerate(gaussian(rng, 4, 3))
    ]
    yield "columns of length 1 to 1e-8, 5 × 3", 1, [
        [10.0 ** (-4 * j) * x for j, x in enumerate(row)] for row in gaussian(rng, 5, 3)
    ]
    moderate = gaussian(rng, 3, 2)
    for exponent in [500, -500, 530, -505, -530]:
        yield f"entries of 2^{exponent}, 3 × 2", 1, [
            [math.ldexp(x, exponent) for x in row] for row in moderate
        ]
    for n, k, p in [(1, 2, 2), (2, 2, 3), (3, 2, 2), (2, 3, 4), (3, 3, 3)]:
        yield f"gaussian {n} × {k} × {p}", k, gaussian(rng, n * k, p)
    yield "singular values 1, 1, 1e-8, 1e-8, 2 × 2 × 4", 2, with_singular_values(rng, [1.0, 1e-8, 1.0, 1e-8])
    yield "one output is zero, 3 × 2 × 2", 2, [
        row if i % 2 == 0 else [0.0, 0.0] for i, row in enumerate(gaussian(rng, 6, 2))
    ]


# ------------------------------------------------------------------------------------------------- exact algebra


def independent_rows(rows):
    """Indices of rows that are a basis of the space of all."""
    chosen, reduced = [], []
    for index, row in enumerate(rows):
        row = list(row)
        for pivot, other in reduced:
            factor = row[pivot] / other[pivot]
            row = [x - factor * y for x, y in zip(row, other)]
        pivot = next((j for j, x in enumerate(row) if x != 0), None)
        if pivot is not None:
            reduced.append((pivot, row))
            chosen.append(index)
    return chosen


def solve(matrix, columns):
    """The solutions of matrix · x = column for each of the columns, by elimination with pivoting."""
    size = len(matrix)
    rows = [list(row) + [column[i] for column in columns] for i, row in enumerate(matrix)]
    for k in range(size):
        best = max(range(k, size), key=lambda i: abs(rows[i][k]))
        rows[k], rows[best] = rows[best], rows[k]
        pivot = rows[k][k]
        for i in range(k + 1, size):
            if rows[i][k] != 0:
                factor = rows[i][k] / pivot
                rows[i][k:] = [x - factor * y for x, y in zip(rows[i][k:], rows[k][k:])]
    solutions = []
    for c in range(len(columns)):
        x = [None] * size
        for i in reversed(range(size)):
            tail = sum((rows[i][j] * x[j] for j in range(i + 1, size)), 0 * rows[i][i])
            x[i] = (rows[i][size + c] - tail) / rows[i][i]
        solutions.append(x)
    return solutions


def hessians(rows, outputs):
    """The matrices of δ ↦ J_iᵀJ_i δ on the span of the gradients, in coordinates there, and that of ‖Jδ‖²."""
    rows = [[Fraction(x) for x in row] for row in rows]
    basis = [rows[i] for i in independent_rows(rows)]
    rank = len(basis)
    inner = lambda a, b: sum(x * y for x, y in zip(a, b))
    gram = [[inner(a, b) for b in basis] for a in basis]
    # A gradient is Σ w_a basis_a with gram · w = (inner products with the basis).
    values = [[inner(row, b) for b in basis] for row in rows]
    weights = solve(gram, values)
    result = []
    for first in range(0, len(rows), outputs):
        block = range(first, first + outputs)
        result.append([[sum(weights[o][a] * values[o][b] for o in block) for b in range(rank)] for a in range(rank)])
    loss = [[sum(value[a] * value[b] for value in values) for b in range(rank)] for a in range(rank)]
    return result, loss


def batches(n, size, replacement):
    """Every batch with its probability."""
    if replacement:
        drawn = Counter(tuple(sorted(batch)) for batch in itertools.product(range(n), repeat=size))
    else:
        drawn = Counter(itertools.combinations(range(n), size))
    total = sum(drawn.values())
    return [(batch, Fraction(count, total)) for batch, count in drawn.items()]


class Moments:
    """T(X) = E[A X Aᵀ] as a polynomial in η, on symmetric X by their upper triangles."""

    def __init__(self, samples, loss, size, replacement, momentum):
        n, rank = len(samples), len(loss)
        self.loss = [[decimal(x) for x in row] for row in loss]
        mean = [[Fraction(0)] * rank for _ in range(rank)]
        second = {}
        indices = range(rank)
        for batch, probability in batches(n, size, replacement):
            h = [[sum(samples[i][a][b] for i in batch) / size for b in indices] for a in indices]
            for a, b in itertools.product(indices, repeat=2):
                mean[a][b] += probability * h[a][b]
            for key in itertools.product(indices, repeat=4):
                a, b, c, d = key
                second[key] = second.get(key, 0) + probability * h[a][b] * h[c][d]
        self.trace = decimal(sum(mean[a][a] for a in indices))
        self.rank, self.momentum = rank, Decimal(momentum)
        blocks = 2 if momentum > 0 else 1
        dimension = blocks * rank
        self.dimension = dimension
        beta = self.momentum
        # A = A0 − η A1 with A0 = [[I, βI], [0, βI]], A1 = [[H, 0], [H, 0]].
        a0 = [[Decimal(0)] * dimension for _ in range(dimension)]
        for a in range(rank):
            a0[a][a] = Decimal(1)
            if blocks == 2:
                a0[a][rank + a] = a0[rank + a][rank + a] = beta
        mean = [[decimal(x) for x in row] for row in mean]
        second = {key: decimal(value) for key, value in second.items()}
        a1 = [[mean[i % rank][j] if j < rank else Decimal(0) for j in range(dimension)] for i in range(dimension)]
        self.pairs = [(i, j) for i in range(dimension) for j in range(i, dimension)]
        self.parts = []
        for i, j in self.pairs:
            units = [(i, j)] if i == j else [(i, j), (j, i)]
            column = []
            for k, l in self.pairs:
                fixed = sum((a0[k][x] * a0[l][y] for x, y in units), Decimal(0))
                drift = sum((a0[k][x] * a1[l][y] + a1[k][x] * a0[l][y] for x, y in units), Decimal(0))
                noise = sum(
                    (second[k % rank, x, l % rank, y] for x, y in units if x < rank and y < rank), Decimal(0)
                )
                column.append((fixed, drift, noise))
            self.parts.append(column)

    def lyapunov(self, rate):
        """The solution of X − T(X) = I."""
        size = len(self.pairs)
        matrix = [[None] * size for _ in range(size)]
        for column, entries in enumerate(self.parts):
            for row, (fixed, drift, noise) in enumerate(entries):
                value = fixed - rate * drift + rate * rate * noise
                matrix[row][column] = (row == column) - value
        identity = [Decimal(int(i == j)) for i, j in self.pairs]
        (solution,) = solve(matrix, [identity])
        x = [[None] * self.dimension for _ in range(self.dimension)]
        for (i, j), value in zip(self.pairs, solution):
            x[i][j] = x[j][i] = value
        return x

    def is_stable(self, rate):
        """Whether the spectral radius of T is below 1, with the inverse of the loss of the solution."""
        x = self.lyapunov(rate)
        indices = range(self.rank)
        inverse = 1 / sum(self.loss[a][b] * x[a][b] for a in indices for b in indices)
        rows = [list(row) for row in x]
        for k in range(self.dimension):
            if not rows[k][k] > 0:
                return False, inverse
            for i in range(k + 1, self.dimension):
                factor = rows[i][k] / rows[k][k]
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k])]
        return True, inverse

    def threshold(self):
        # Past 2(1+β)/λ_max the mean diverges, and λ_max ≥ tr G / r.
        low, high = Decimal(0), Decimal("2.03") * (1 + self.momentum) * self.rank / self.trace
        assert not self.is_stable(high)[0]
        # Two modes that turn at nearly the same learning rate are told apart by halving alone.
        for width in ["1e-7", "1e-25", "1e-60"]:
            while high - low > Decimal(width) * high:
                middle = (low + high) / 2
                low, high = (middle, high) if self.is_stable(middle)[0] else (low, middle)
            root = self.zero(low, (low + high) / 2)
            if low <= root <= high and self.is_sharp(root):
                break
        else:
            raise ArithmeticError("no threshold found")
        for part in range(1, 12):
            assert self.is_stable(root * part / 12)[0], part
        return root

    def zero(self, x0, x1):
        """The zero of the inverse loss, whose pole is at the threshold, by the secant method."""
        y0 = self.is_stable(x0)[1]
        for _ in range(40):
            y1 = self.is_stable(x1)[1]
            if y1 == y0:
                break
            x0, x1, y0 = x1, x1 - y1 * (x1 - x0) / (y1 - y0), y1
            if abs(x1 - x0) <= Decimal("1e-75") * abs(x1):
                break
        return x1

    def is_sharp(self, root):
        margin = Decimal("1e-55")
        return self.is_stable(root * (1 - margin))[0] and not self.is_stable(root * (1 + margin))[0]


def main():
    results, count = [], 0
    for name, outputs, rows in jacobians():
        n = len(rows) // outputs
        samples, loss = hessians(rows, outputs)
        ways = {(size, replacement) for size in {1, min(2, n), n} for replacement in [True, False]}
        if n == 2:
            ways.add((3, True))
        thresholds = []
        for momentum in [0.0, 0.9]:
            if momentum > 0 and len(loss) > 3:
                continue
            for size, replacement in sorted(ways):
                root = Moments(samples, loss, size, replacement, momentum).threshold()
                sampling = "with_replacement" if replacement else "without_replacement"
                thresholds.append([size, sampling, repr(momentum), f"{root:.54e}"])
        lines = ",\n".join("   " + json.dumps(line) for line in thresholds)
        # Numbers as text: not every reader of JSON rounds them correctly.
        matrix = json.dumps([[repr(float(x)) for x in row] for row in rows])
        head = f' {{"name": {json.dumps(name, ensure_ascii=False)}, "outputs": {outputs},\n  "rows": {matrix},'
        results.append(f'{head}\n  "thresholds": [\n{lines}\n  ]}}')
        count += len(thresholds)
        print(f"{count:4} thresholds, {name}", file=sys.stderr)
    print("[\n" + ",\n".join(results) + "\n]")


if __name__ == "__main__":
    main()
