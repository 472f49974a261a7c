"""The Gauss–Newton matrix of a loss, by the Gram matrix of the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

SHARPNESS_BATCHES = 32
"""Batches that the batch sharpness is the mean of."""


def cross_entropy_hessians(kind: str, logits: Tensor) -> Tensor:
    """n × k × k second derivatives of a cross-entropy in its logits.

    diag(π) − ππᵀ with π the softmax, or π(1 − π) with the sigmoid for ``binary-cross-entropy``.
    """
    logits = logits.reshape(len(logits), -1)
    if kind == "binary-cross-entropy":
        p = torch.sigmoid(logits)
        return (p * (1 - p))[:, :, None]
    p = logits.softmax(dim=1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]


def output_roots(words: dict[str, Any], n: int, k: int) -> np.ndarray:
    """n × k × k matrices R_i with R_iR_iᵀ the Hessian of ℓ_i in the outputs.

    ``words`` are the keywords of a loss, :meth:`flatmin.torch._loss.ReadLoss.keywords`.
    """
    scale = words["loss_scale"]
    if words["loss"] == "squared":
        return np.broadcast_to(np.sqrt(scale) * np.eye(k), (n, k, k))
    if words["loss"] == "custom":
        hessians = np.asarray(words["output_hessian"])
    else:
        logits = torch.from_numpy(np.asarray(words["logits"]))
        hessians = cross_entropy_hessians(words["loss"], logits).numpy()
    values, vectors = np.linalg.eigh(scale * hessians)
    return vectors * np.sqrt(np.clip(values, 0, None))[:, None, :]


def weighted(gram: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """RᵀKR, the Gram matrix of the rows R_iᵀJ_i; its eigenvalues over n are those of G."""
    n, k = roots.shape[:2]
    half = np.einsum("iab,iax->ibx", roots, gram.reshape(n, k, n * k)).reshape(n * k, n, k)
    return np.einsum("xjc,jcd->xjd", half, roots).reshape(n * k, n * k)


def batch_sharpness(
    gram: np.ndarray, roots: np.ndarray, residuals: np.ndarray, *, size: int, seed: int
) -> float:
    """Mean over batches of (1/B) ‖R_Bᵀ K_B r_B‖² / r_Bᵀ K_B r_B.

    That is gᵀHg/gᵀg with the gradient g = J_Bᵀr_B/B and the Gauss–Newton matrix H of a batch. NaN
    where all gradients vanish.
    """
    n, k = roots.shape[:2]
    size = min(size, n)
    rng = np.random.default_rng(seed)
    gram = gram.reshape(n, k, n, k)
    residuals = np.asarray(residuals).reshape(n, k)
    values = []
    for _ in range(1 if size == n else SHARPNESS_BATCHES):
        batch = np.sort(rng.choice(n, size, replace=False))
        some = gram[batch][:, :, batch].reshape(size * k, size * k)
        r = residuals[batch].reshape(-1)
        moved = some @ r
        square = float(r @ moved)
        if square > 0:
            bent = np.einsum("iab,ia->ib", roots[batch], moved.reshape(size, k))
            values.append(float((bent**2).sum()) / (size * square))
    return float(np.mean(values)) if values else float("nan")
