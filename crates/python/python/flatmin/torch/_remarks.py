"""Remarks on the gap between the question that is answered and the training that goes on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ._network import DROPOUT, Inputs, Network, sample_count, take
from ._optimizer import ReadOptimizer

SMALL_MOMENT = 1e-3
"""D of a tensor counts as vanishing below this fraction of what is usual for its model."""
TRIED_SAMPLES = 256


def of_mode(model: nn.Module) -> list[str]:
    """Says that layers which act otherwise in training are taken as in evaluation mode."""
    modules = list(model.modules())
    found = []
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in modules):
        found.append(
            "the model has batch normalisation: the answer is for training on with its statistics "
            "fixed, as in evaluation mode. Training mode normalises by each batch, and has another "
            "edge"
        )
    if any(isinstance(m, DROPOUT) and m.p > 0 for m in modules):
        found.append("the model has dropout: the answer is for training on without it")
    return found


def of_scaling(optimizer: torch.optim.Optimizer, read: ReadOptimizer) -> list[str]:
    """Says by which names the text knows Adam or RMSprop."""
    momentum = f" with momentum {read.momentum:g}" if read.momentum else ""
    if read.dampening:
        momentum += f" and dampening {read.dampening:g}"
    return [
        f"{type(optimizer).__name__} is answered for as SGD{momentum} that divides each step by "
        "the root of its second moments, with these moments as they are now"
    ]


def of_labels(are_hard: bool) -> list[str]:
    """Says of a cross-entropy with hard labels that its minimum is at infinity."""
    if not are_hard:
        return []
    return [
        "the labels are hard, without smoothing: unless weights decay, this loss has no minimum. "
        "It falls while the logits grow, and η* grows with them; the answer is for the weights as "
        "they are now"
    ]


def of_moments(network: Network, inputs: Inputs, diagonal: dict[str, np.ndarray]) -> list[str]:
    """Doubts tensors whose vanishing v̂ decides the answer.

    A bias before batch normalisation has no gradient in training mode, so that its v̂ is rounding,
    and an honest derivative in evaluation mode. The trace of D^{-1/2} G D^{-1/2} is compared by one
    backward pass with random signs for the outputs, whose squares have the right mean.
    """
    largest = {name: float(d.max()) for name, d in diagonal.items()}
    usual = float(np.median(list(largest.values())))
    small = [name for name, d in largest.items() if d < SMALL_MOMENT * usual]
    if not small:
        return []
    part = take(inputs, slice(0, min(sample_count(inputs), TRIED_SAMPLES)))
    with network.calm():
        trained = {name: p.requires_grad_() for name, p in _copies(network).items()}
        outputs = network.rows(trained, part)
        signs = torch.randint(0, 2, outputs.shape, generator=torch.Generator().manual_seed(0))
        gradients = torch.autograd.grad(
            outputs, list(trained.values()), (2 * signs - 1).to(outputs), allow_unused=True
        )
    traces = {
        name: 0.0 if g is None else float((g.detach().cpu().double().numpy() ** 2 / d).sum())
        for (name, d), g in zip(diagonal.items(), gradients, strict=True)
    }
    share = sum(traces[name] for name in small) / max(sum(traces.values()), 1e-300)
    if share < 0.5:
        return []
    return [
        f"{_listed(small)} decides the answer by second moments near zero, though the outputs "
        "depend on it: training gives it no gradient, as for a bias before batch normalisation in "
        "training mode. Leave it out by params=[…], the names of the others"
    ]


def _copies(network: Network) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in network.trained.items()}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
