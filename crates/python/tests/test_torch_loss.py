"""Losses of PyTorch are read right: curvature and gradients against autograd, words as expected."""

from __future__ import annotations

import numpy as np
import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as helpers
from torch import nn
from torch.nn import functional as F

import flatmin
import flatmin.torch
from flatmin.torch._loss import read_loss

N = 7


def drawn(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def labels(shape, classes, seed=1):
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def soft(shape, seed=1):
    return drawn(shape, seed).softmax(dim=1)


#: loss, outputs, targets, the word of flatmin
LOSSES = {
    "mse": (nn.MSELoss(), (N, 1), drawn((N, 1), 1), "squared"),
    "mse, one axis": (nn.MSELoss(), (N,), drawn((N,), 1), "squared"),
    "mse, k outputs": (nn.MSELoss(), (N, 3), drawn((N, 3), 1), "squared"),
    "mse, images": (nn.MSELoss(), (N, 2, 2), drawn((N, 2, 2), 1), "squared"),
    "mse, sum": (nn.MSELoss(reduction="sum"), (N, 3), drawn((N, 3), 1), "squared"),
    "mse, function": (F.mse_loss, (N, 3), drawn((N, 3), 1), "squared"),
    "half mse": (lambda o, t: 0.5 * ((o - t) ** 2).mean(), (N, 1), drawn((N, 1), 1), "custom"),
    "sum of squares": (lambda o, t: ((o - t) ** 2).sum(), (N, 2), drawn((N, 2), 1), "custom"),
    "cross-entropy": (nn.CrossEntropyLoss(), (N, 4), labels((N,), 4), "cross-entropy"),
    "smoothed": (
        nn.CrossEntropyLoss(label_smoothing=0.1),
        (N, 4),
        labels((N,), 4),
        "cross-entropy",
    ),
    "soft labels": (nn.CrossEntropyLoss(), (N, 4), soft((N, 4)), "cross-entropy"),
    "soft, smoothed": (
        nn.CrossEntropyLoss(label_smoothing=0.2),
        (N, 4),
        soft((N, 4)),
        "cross-entropy",
    ),
    "labels that sum to 2": (nn.CrossEntropyLoss(), (N, 4), 2 * soft((N, 4)), "custom"),
    "cross-entropy, sum": (
        nn.CrossEntropyLoss(reduction="sum"),
        (N, 4),
        labels((N,), 4),
        "cross-entropy",
    ),
    "weights, sum": (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3, 4]), reduction="sum"),
        (N, 4),
        labels((N,), 4),
        "custom",
    ),
    "weights, soft labels": (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3, 4])),
        (N, 4),
        soft((N, 4)),
        "custom",
    ),
    "weights by hand": (
        lambda o, t: F.cross_entropy(
            o, t, weight=torch.tensor([1.0, 2, 3, 4]).to(o), reduction="none"
        ).mean(),
        (N, 4),
        labels((N,), 4),
        "custom",
    ),
    "sequence": (nn.CrossEntropyLoss(), (N, 4, 3), labels((N, 3), 4), "custom"),
    "sequence, smoothed": (
        nn.CrossEntropyLoss(label_smoothing=0.1),
        (N, 4, 3),
        labels((N, 3), 4),
        "custom",
    ),
    "logistic": (nn.BCEWithLogitsLoss(), (N, 1), soft((2, N))[0, :, None], "binary-cross-entropy"),
    "logistic, one axis": (
        nn.BCEWithLogitsLoss(),
        (N,),
        labels((N,), 2).double(),
        "binary-cross-entropy",
    ),
    "logistic, k labels": (nn.BCEWithLogitsLoss(), (N, 3), labels((N, 3), 2).double(), "custom"),
    "pos_weight": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 3, 4])),
        (N, 3),
        labels((N, 3), 2).double(),
        "custom",
    ),
    "huber": (nn.HuberLoss(delta=0.7), (N, 2), drawn((N, 2), 1), "custom"),
    "smooth l1": (nn.SmoothL1Loss(beta=0.5), (N, 2), drawn((N, 2), 1), "custom"),
    "poisson": (nn.PoissonNLLLoss(), (N, 2), labels((N, 2), 5).double(), "custom"),
    "soft margin": (nn.SoftMarginLoss(), (N, 2), 2.0 * labels((N, 2), 2) - 1, "custom"),
    "gaussian, fixed variance": (
        lambda o, t: F.gaussian_nll_loss(o, t, torch.full_like(o, 0.3)),
        (N, 2),
        drawn((N, 2), 1),
        "custom",
    ),
    "log cosh": (
        lambda o, t: (F.softplus(2 * (o - t)) - (o - t)).mean(),
        (N, 2),
        drawn((N, 2), 1),
        "custom",
    ),
    "not for vmap": (
        lambda o, t: ((o - t) ** 2).mean() * (1.0 if float(o.sum()) < 1e9 else 2.0),
        (N, 2),
        drawn((N, 2), 1),
        "custom",
    ),
}


def of_a_batch(loss, outputs, targets):
    """Hessian and gradient of the loss of the whole batch, times n, by double backward passes."""
    flat = outputs.reshape(-1)

    def value(flat):
        return loss(flat.reshape(outputs.shape), targets)

    hessian = torch.autograd.functional.hessian(value, flat)
    (gradient,) = torch.autograd.grad(value(flat.requires_grad_()), flat)
    return hessian * N, gradient.detach() * N


def blocks_of(words, k):
    """S_i and ∇ℓ_i as flatmin understands the keywords."""
    scale = words["loss_scale"]
    residuals = scale * torch.as_tensor(words["residuals"])
    if words["loss"] == "squared":
        return scale * torch.eye(k).expand(N, k, k), residuals
    if words["loss"] == "custom":
        return scale * torch.as_tensor(words["output_hessian"]), residuals
    logits = torch.as_tensor(words["logits"])
    if words["loss"] == "binary-cross-entropy":
        p = torch.sigmoid(logits)
        return scale * (p * (1 - p))[:, :, None], residuals
    p = logits.softmax(dim=1)
    return scale * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]), residuals


@pytest.mark.parametrize("name", LOSSES)
def test_curvature_is_that_of_the_batch_loss(name):
    loss, shape, targets, word = LOSSES[name]
    outputs = drawn(shape)
    found = read_loss(loss, outputs, targets)
    assert found.loss == word
    summed = "sum" in name and "that sum" not in name
    assert found.summed == summed
    hessian, gradient = of_a_batch(_doubled(loss), outputs, _as_double(targets, loss))
    # With a sum over the batch, a batch of n is n times the mean.
    blocks, residuals = blocks_of(found.keywords(N if summed else 3), outputs[0].numel())
    expected = torch.block_diag(*blocks)
    torch.testing.assert_close(hessian, expected.double(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, residuals.reshape(-1).double(), rtol=1e-6, atol=1e-7)


def _doubled(loss):
    return loss.double() if isinstance(loss, nn.Module) else loss


def _as_double(targets, loss):
    return targets.double() if isinstance(loss, nn.SoftMarginLoss) else targets


def test_scales_are_those_of_the_table():
    for k in (1, 3):
        found = read_loss(nn.MSELoss(), drawn((N, k)), drawn((N, k)))
        assert found.keywords(4)["loss_scale"] == 2 / k
        found = read_loss(nn.MSELoss(reduction="sum"), drawn((N, k)), drawn((N, k)))
        assert found.keywords(4)["loss_scale"] == 8.0


def test_a_sum_is_recognized_where_the_loss_vanishes():
    found = read_loss(lambda o, t: ((o - t) ** 2).sum(), drawn((N, 2)), drawn((N, 2)))
    assert found.summed
    found = read_loss(lambda o, t: ((o - t) ** 2).mean(), drawn((N, 2)), drawn((N, 2)))
    assert not found.summed


REFUSED = {
    "none": (nn.MSELoss(reduction="none"), (N, 1), drawn((N, 1)), r"\.mean\(\)"),
    "broadcast": (nn.MSELoss(), (N, 1), drawn((N,)), r"broadcast.*squeeze\(-1\)"),
    "broadcast by hand": (lambda o, t: ((o - t) ** 2).mean(), (N, 1), drawn((N,)), "no mean over"),
    "l1": (nn.L1Loss(), (N, 1), drawn((N, 1), 1), "HuberLoss"),
    "absolute": (lambda o, t: (o - t).abs().mean(), (N, 1), drawn((N, 1), 1), "no curvature"),
    "nll": (nn.NLLLoss(), (N, 3), labels((N,), 3), "CrossEntropyLoss"),
    "kl": (nn.KLDivLoss(reduction="batchmean"), (N, 3), soft((N, 3)), "CrossEntropyLoss"),
    "class weights": (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3])),
        (N, 3),
        labels((N,), 3),
        r"divides by the weights of each batch.*reduction='none'",
    ),
    "weights by function": (
        lambda o, t: F.cross_entropy(o, t, weight=torch.tensor([1.0, 2, 3]).to(o)),
        (N, 3),
        labels((N,), 3),
        "no mean over samples",
    ),
    "padding": (nn.CrossEntropyLoss(), (N, 3), torch.tensor([0, 1, 2, 0, -100, 1, 1]), "ignore"),
    "class 3 of 3": (nn.CrossEntropyLoss(), (N, 3), torch.full((N,), 3), "expected 0 … 2"),
    "one logit": (nn.CrossEntropyLoss(), (N, 1), labels((N,), 1), "BCEWithLogitsLoss"),
    "length before classes": (nn.CrossEntropyLoss(), (N, 5, 3), labels((N, 5), 3), "transpose"),
    "not convex": (
        lambda o, t: torch.sin(3 * (o - t)).mean(),
        (N, 1),
        drawn((N, 1), 1),
        "not convex in the outputs of sample",
    ),
    "between samples": (
        lambda o, t: ((o - o.mean(0)) ** 2).mean() + ((o - t) ** 2).mean(),
        (N, 1),
        drawn((N, 1), 1),
        "no mean over samples",
    ),
    "class": (nn.MSELoss, (N, 1), drawn((N, 1)), r"MSELoss\(\)"),
    "no targets": (nn.MSELoss(), (N, 1), None, "no targets"),
    "whole numbers": (nn.BCEWithLogitsLoss(), (N, 1), labels((N, 1), 2), "the loss fails"),
    "per output": (lambda o, t: (o - t) ** 2, (N, 2), drawn((N, 2)), "no single number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_do(name):
    loss, shape, targets, text = REFUSED[name]
    with pytest.raises(flatmin.InputError, match=text):
        read_loss(loss, drawn(shape), targets)


@pytest.mark.parametrize("name", ["mse, k outputs", "smoothed", "huber", "pos_weight"])
def test_gradient_descent_edge_is_that_of_the_hessian(name):
    """With B = n the answer is 2/λ_max of the Gauss–Newton matrix of the real loss."""
    loss, shape, targets, _ = LOSSES[name]
    model = helpers.mlp(4, 6, shape[1])
    x = drawn((N, 4), 5)
    rows = helpers.plain_jacobian(model, x).reshape(-1, sum(p.numel() for p in model.parameters()))
    hessian, _ = of_a_batch(_doubled(loss), model(x).detach(), _as_double(targets, loss))
    gauss_newton = rows.T @ hessian.numpy() @ rows / N
    edge = 2 / np.linalg.eigvalsh(gauss_newton).max()
    found = flatmin.torch.analyze(model, (x, targets), loss, batch_size=N)
    assert found.threshold().estimate == pytest.approx(edge, rel=1e-8)
