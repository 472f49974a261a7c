"""Jacobians and Gram matrices of modules are those of plain autograd loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as helpers
from torch import nn

import flatmin
import flatmin.torch
from flatmin.torch._blocks import classify
from flatmin.torch._gram import network_gram
from flatmin.torch._network import Network

PLACES = 1e-13


class Experts(nn.Module):
    """Layers that see other samples than the rest, and another number of them."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 2)
        self.experts = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        chosen = weights.argmax(-1)
        out = x.new_zeros(len(x), 3)
        for i, expert in enumerate(self.experts):
            rows = (chosen == i).nonzero().flatten()
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, i : i + 1])
        return out


def images():
    return torch.randn(7, 3, 6, 6)


def tokens():
    return torch.randint(0, 10, (7, 4))


def series():
    return torch.randn(7, 5, 4)


MODELS = {
    "linear": (lambda: nn.Linear(4, 1), lambda: torch.randn(7, 4)),
    "mlp": (lambda: helpers.mlp(4, 8, 3), lambda: torch.randn(7, 4)),
    "one sample": (lambda: helpers.mlp(4, 8, 3), lambda: torch.randn(1, 4)),
    "mlp on a sequence": (lambda: helpers.mlp(4, 8, 2), series),
    "cnn": (helpers.ConvNet, images),
    "signal": (helpers.Signal, tokens),
    "batch norm of features": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)),
        lambda: torch.randn(7, 4),
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.Flatten(), nn.Linear(24, 2)),
        lambda: torch.randn(5, 2, 3, 3, 3),
    ),
    "attention": (helpers.Attention, lambda: torch.randn(7, 5, 8)),
    "lstm": (helpers.Recurrent, series),
    "gru": (lambda: helpers.Recurrent(nn.GRU), series),
    "rnn, two layers": (
        lambda: helpers.Recurrent(nn.RNN, num_layers=2, dropout=0.1),
        series,
    ),
    "gru cell in a loop": (helpers.CellLoop, series),
    "tied embedding": (helpers.Tied, tokens),
    "layer used twice": (
        lambda: (lambda layer: nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(4, 2)))(
            nn.Linear(4, 4)
        ),
        lambda: torch.randn(7, 4),
    ),
    "weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 2)
        ),
        lambda: torch.randn(7, 4),
    ),
    "bilinear": (
        lambda: Wrapped(nn.Bilinear(4, 4, 3), lambda layer, x: layer(x, x.flip(1))),
        lambda: torch.randn(7, 4),
    ),
    "prelu": (lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU()), lambda: torch.randn(7, 4)),
    "samples folded into a batch": (
        lambda: Wrapped(
            nn.Conv2d(1, 2, 3),
            lambda layer, x: layer(x.reshape(-1, 1, 4, 5)).reshape(len(x), 3, -1),
        ),
        lambda: torch.randn(7, 3, 4, 5),
    ),
    "samples on the second axis inside": (
        lambda: Wrapped(nn.Linear(4, 3), lambda layer, x: layer(x.transpose(0, 1)).transpose(0, 1)),
        series,
    ),
    "branch by the numbers": (
        lambda: Wrapped(
            nn.Linear(4, 2), lambda layer, x: layer(x) if x.sum() > 0 else 2 * layer(x * x)
        ),
        lambda: torch.randn(1, 4).expand(7, 4) * torch.rand(7, 1),
    ),
    "experts": (Experts, lambda: torch.randn(13, 4)),
    "a weight used twice": (
        lambda: Wrapped(nn.Linear(4, 4), lambda layer, x: layer(x) @ layer.weight),
        lambda: torch.randn(7, 4),
    ),
    "masked attention": (
        lambda: Wrapped(
            nn.MultiheadAttention(8, 2, batch_first=True),
            lambda layer, x: layer(x, x, x, key_padding_mask=x[..., 0] > 1.5)[0][:, 0],
        ),
        lambda: torch.randn(7, 5, 8),
    ),
    "reflected, strided, in groups": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, (3, 2), (2, 1), (2, 1), (2, 1), 2, padding_mode="reflect"),
            nn.Flatten(),
            nn.Linear(168, 2),
        ),
        lambda: torch.randn(6, 4, 7, 6),
    ),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        lambda: torch.randn(7, 4),
    ),
    "squeezed output": (
        lambda: Wrapped(nn.Linear(4, 1), lambda layer, x: layer(x).squeeze()),
        lambda: torch.randn(7, 4),
    ),
}


class Wrapped(nn.Module):
    def __init__(self, layer, call):
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x):
        return self.call(self.layer, x)


def made(name):
    torch.manual_seed(1)
    model, x = MODELS[name][0](), MODELS[name][1]()
    model = helpers.randomized(model).double().eval()
    return model, x.double() if x.is_floating_point() else x


@pytest.mark.parametrize("name", MODELS)
def test_jacobian_and_gram_are_those_of_autograd(name):
    model, x = made(name)
    expected = helpers.plain_jacobian(model, x)
    found = flatmin.torch.jacobian(model, x)
    assert found.shape == expected.shape and found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=PLACES * abs(expected).max(), rtol=0)
    gram = helpers.plain_gram(expected)
    found = flatmin.torch.gram(model, x)
    np.testing.assert_allclose(found, gram, atol=PLACES * abs(gram).max(), rtol=0)


@pytest.mark.parametrize("name", ["mlp", "cnn", "signal", "attention", "lstm", "tied embedding"])
@pytest.mark.parametrize("chunk_size", [1, 3])
def test_chunks_and_little_memory_change_nothing(name, chunk_size):
    model, x = made(name)
    expected = helpers.plain_jacobian(model, x)
    gram = helpers.plain_gram(expected)
    network = Network(model)
    rows = len(gram)
    # room for the matrix and a handful of columns
    limit = 16 * rows**2 + 8 * rows * 40
    found = network_gram(network, ((x,), {}), chunk_size=chunk_size, memory_limit=limit)
    np.testing.assert_allclose(found, gram, atol=PLACES * abs(gram).max(), rtol=0)
    found = flatmin.torch.jacobian(model, x, chunk_size=chunk_size)
    np.testing.assert_allclose(found, expected, atol=PLACES * abs(expected).max(), rtol=0)


def test_named_inputs_dict_output_frozen_and_unused_parameters():
    torch.manual_seed(0)
    model = helpers.TwoInputs().double()
    x = {"x": torch.randn(5, 3).double(), "mask": torch.randn(5, 2).double()}
    pick = {"output": lambda result: result["logits"]}
    expected = helpers.plain_jacobian(model, **x, **pick)
    found = flatmin.torch.jacobian(model, x, **pick)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert found.shape[2] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (found[:, :, -6:] == 0).all()
    some = flatmin.torch.jacobian(model, x, **pick, params=["head.weight", "head.bias"])
    np.testing.assert_array_equal(some, found[:, :, -16:-6])
    with pytest.raises(flatmin.InputError, match=r"output=lambda result: result\['logits'\]"):
        flatmin.torch.jacobian(model, x)


def test_several_positional_inputs():
    model = Wrapped(nn.Bilinear(4, 3, 2).double(), None)
    model.forward = lambda x, y: model.layer(x, y)
    x, y = torch.randn(6, 4).double(), torch.randn(6, 3).double()
    expected = helpers.plain_jacobian(model, x, y)
    np.testing.assert_allclose(flatmin.torch.jacobian(model, ((x, y), None)), expected)


def test_a_scale_of_columns_is_that_of_the_jacobian():
    model, x = made("mlp")
    network = Network(model)
    scale = {name: 0.5 + torch.rand(p.shape) for name, p in network.trained.items()}
    rows = helpers.plain_jacobian(model, x)
    rows = rows * torch.cat([s.reshape(-1) for s in scale.values()]).numpy()
    found = network_gram(network, ((x,), {}), scale=scale, memory_limit=2**30)
    np.testing.assert_allclose(found, helpers.plain_gram(rows), rtol=1e-6)


def test_closed_forms_are_taken_where_they_should_be():
    """Otherwise the work is many times as long."""
    for name, others in {"mlp": set(), "cnn": set(), "tied embedding": set()}.items():
        model, x = made(name)
        ways = classify(Network(model), ((x,), {}))
        assert {n for n, kind in ways.kinds.items() if kind != "closed"} == others, name
    model, x = made("attention")
    ways = classify(Network(model), ((x,), {}))
    assert {n for n, kind in ways.kinds.items() if kind != "closed"} == {
        f"layer.self_attn.{n}"
        for n in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    }


def test_a_wrong_closed_form_is_not_believed(monkeypatch):
    from flatmin.torch import _layers

    forms = {kind: (lambda *a, f=f: 1.001 * f(*a)) for kind, f in _layers.FORMS.items()}
    monkeypatch.setattr(_layers, "FORMS", forms)
    model, x = made("cnn")
    ways = classify(Network(model), ((x,), {}))
    assert set(ways.kinds.values()) == {"vmap"}


def test_float32_and_half_precision():
    model, x = made("cnn")
    expected = helpers.plain_jacobian(model, x)
    found = flatmin.torch.jacobian(model.float(), x.float())
    assert found.dtype == np.float32
    assert abs(found - expected).max() < 1e-5 * abs(expected).max()
    exact = flatmin.torch.jacobian(model, x.float(), dtype=torch.float64)
    assert exact.dtype == np.float64
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    low = flatmin.torch.jacobian(rounded, x.to(torch.bfloat16))
    of_rounded = helpers.plain_jacobian(rounded.double(), x.to(torch.bfloat16).double())
    assert low.dtype == np.float32
    assert abs(low - of_rounded).max() < 1e-5 * abs(of_rounded).max()


@pytest.mark.parametrize("name", ["cnn", "attention", "lstm", "tied embedding"])
def test_the_model_stays_as_it_was(name):
    model, x = made(name)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    identities = [id(p) for p in model.parameters()]
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    fast = torch.backends.mha.get_fastpath_enabled()
    flatmin.torch.gram(model, x)
    flatmin.torch.jacobian(model, x)
    assert all(
        torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True)
    )
    assert [m.training for m in model.modules()] == modes
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert [id(p) for p in model.parameters()] == identities
    assert all(p.requires_grad and bool((p.grad == 1).all()) for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numbers).all()
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert not x.requires_grad


def test_under_no_grad_and_inference_mode():
    model, x = made("mlp")
    expected = flatmin.torch.gram(model, x)
    with torch.no_grad():
        np.testing.assert_array_equal(flatmin.torch.gram(model, x), expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(flatmin.torch.gram(model, x), expected)


def test_wrapped_models():
    model, x = made("mlp")
    expected = flatmin.torch.jacobian(model, x)
    np.testing.assert_array_equal(flatmin.torch.jacobian(nn.DataParallel(model), x), expected)
    compiled = torch.compile(model, backend="eager")
    np.testing.assert_array_equal(flatmin.torch.jacobian(compiled, x), expected)


def test_the_gram_matrix_has_no_negative_eigenvalues():
    """Sums of float32 rows in float64 keep the matrix semidefinite."""
    model = helpers.mlp(10, 256, 1, dtype=torch.float32)
    gram = flatmin.torch.gram(model, torch.randn(60, 10))
    values = np.linalg.eigvalsh(gram)
    assert values.min() > -1e-13 * values.max()


def test_sizes_are_refused_with_numbers():
    model, x = made("mlp")
    with pytest.raises(flatmin.InputError, match=r"7 samples × 3 outputs.*21 × 21.*biased"):
        flatmin.torch.gram(model, x, memory_limit=1e-6)
    with pytest.raises(flatmin.InputError, match=r"7 × 3 × 67 numbers.*flatmin\.torch\.gram"):
        flatmin.torch.jacobian(model, x, memory_limit=1e-5)
    with pytest.raises(flatmin.InputError, match="memory_limit is -1"):
        flatmin.torch.gram(model, x, memory_limit=-1)
