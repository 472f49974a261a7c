"""Rows of the Jacobian for any module: by `torch.func`, or by a loop of backward passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.utils._pytree import tree_map

from ._network import Inputs, Network, sample_count


def vmap_rows(
    network: Network, inputs: Inputs, names: list[str], outputs_at_once: int
) -> dict[str, Tensor]:
    """By `torch.func`: samples × k × columns of each named parameter."""
    fixed = {name: p for name, p in network.trained.items() if name not in names}

    def outputs(moving: dict[str, Tensor], sample: Inputs) -> Tensor:
        return network.single({**fixed, **moving}, sample)

    moving = {name: network.trained[name] for name in names}
    by_name = vmap(jacrev(outputs, chunk_size=outputs_at_once), in_dims=(None, 0))(moving, inputs)
    return {
        name: rows.detach().flatten(2) if rows.dim() > 2 else rows.detach().unsqueeze(2)
        for name, rows in by_name.items()
    }


def loop_rows(network: Network, inputs: Inputs, names: list[str]) -> dict[str, Tensor]:
    """By a backward pass for each output of each sample."""
    leaves = dict(network.trained)
    moving = {name: leaves[name].detach().requires_grad_() for name in names}
    leaves |= moving
    collected: dict[str, list[Tensor]] = {name: [] for name in names}
    n = sample_count(inputs)
    for i in range(n):
        sample = tree_map(lambda leaf, i=i: leaf[i], inputs)
        outputs = network.single(leaves, sample)
        for a in range(len(outputs)):
            grads = _one_backward(outputs, a, list(moving.values()))
            for name, grad in zip(names, grads, strict=True):
                collected[name].append(grad.reshape(-1))
    return {
        name: torch.stack(rows).reshape(n, -1, len(rows[0])) for name, rows in collected.items()
    }


def _one_backward(outputs: Tensor, a: int, leaves: list[Tensor]) -> Sequence[Tensor]:
    if not outputs.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    grads = torch.autograd.grad(
        outputs[a], leaves, retain_graph=a + 1 < len(outputs), allow_unused=True
    )
    return [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, grads, strict=True)]
