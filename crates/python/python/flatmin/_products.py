"""Jacobians that are known by their products."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ._native import Functions


class JacobianProducts(NamedTuple):
    """A Jacobian J, nk × p, of k outputs for each of n samples, by its products.

    ``flatmin.analyze(products=…)`` brackets thresholds with it, for any number of samples. Row
    i·k + a of J belongs to output a of sample i. Before a number is used, the functions are tried:
    they must be linear, adjoint to each other, and agree with the blocks.

    Attributes
    ----------
    samples, outputs, parameters : int
        n, k and p.
    jvp : callable
        V (p × b) → J V (nk × b), arrays of float64.
    vjp : callable
        U (nk × b) → Jᵀ U (p × b).
    sample_grams : callable
        () → the J_i J_iᵀ of all samples, n × k × k.

    Examples
    --------
    >>> import numpy as np, flatmin
    >>> J = np.random.default_rng(0).standard_normal((40, 9)) / (1 + np.arange(9)) ** 2
    >>> products = flatmin.JacobianProducts(
    ...     40, 1, 9, lambda v: J @ v, lambda u: J.T @ u, lambda: (J**2).sum(axis=1)
    ... )
    >>> flatmin.threshold(products=products, relative_width=0.01).kind
    'bracket'
    """

    samples: int
    outputs: int
    parameters: int
    jvp: Callable[[np.ndarray], Any]
    vjp: Callable[[np.ndarray], Any]
    sample_grams: Callable[[], Any]


def functions(products: JacobianProducts) -> Functions:
    """The products as functions of bytes, column by column."""
    import numpy as np

    n, k, p = products.samples, products.outputs, products.parameters

    def product(
        function: Callable[[np.ndarray], Any], rows: int, result: int
    ) -> Callable[[bytes, int], bytes]:
        def call(numbers: bytes, count: int) -> bytes:
            vectors = np.frombuffer(numbers).reshape(count, rows).T
            image = np.asarray(function(vectors), dtype=np.float64)
            if image.shape != (result, count):
                raise ValueError(f"the function returned {image.shape}, expected {result, count}")
            return image.tobytes(order="F")

        return call

    def grams() -> bytes:
        blocks = np.asarray(products.sample_grams(), dtype=np.float64)
        if blocks.size != n * k * k:
            raise ValueError(f"sample_grams returned {blocks.shape}, expected {n, k, k}")
        return blocks.tobytes()

    return (
        n,
        k,
        p,
        product(products.jvp, p, n * k),
        product(products.vjp, n * k, p),
        grams,
    )
