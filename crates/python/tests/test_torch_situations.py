"""Situations from the issue threads of tools for curvature: a right answer, or what to do.

Each test is a thing that people ran into with tangent kernels, Hessian tools and per-sample
gradients: a shape or factor that was silently wrong, or an error that did not say its cause.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as helpers
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import flatmin
import flatmin.torch

N = 8


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def regression(k=1):
    return drawn(N, 4), drawn(N, k, seed=1)


def edge(model, data, loss=None, optimizer=None, **keywords):
    """η* of batches of 2, drawn without replacement, unless said otherwise."""
    keywords = {"batch_size": 2, "sampling": "without_replacement"} | keywords
    found = flatmin.torch.analyze(model, data, loss, optimizer, **keywords)
    return found.threshold(keywords["batch_size"]).estimate


def by_definition(rows, batch_size, scale):
    """η* without replacement of n × k × p rows, from dense second moments and bisection."""
    n, _, p = rows.shape
    matrices = scale * np.einsum("iap,iaq->ipq", rows, rows)
    mean = matrices.mean(0)
    noise = (n - batch_size) / (batch_size * (n - 1))
    eye = np.eye(p)
    square = (1 - noise) * np.kron(mean, mean)
    square += noise * np.mean([np.kron(m, m) for m in matrices], axis=0)

    def radius(rate):
        step = np.kron(eye, eye) - rate * (np.kron(mean, eye) + np.kron(eye, mean))
        values = np.linalg.eigvalsh(step + rate**2 * square)
        return values.max()

    low, high = 0.0, 2 / np.linalg.eigvalsh(mean).max()
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(middle) <= 1 + 1e-12 else (low, middle)
    return low


@pytest.mark.parametrize("k", [1, 2])
def test_factor_of_mse_and_its_mean_over_outputs(k):
    """The commonest mistake of all: MSELoss has no ½, and a mean over outputs too."""
    model = nn.Linear(4, k).double()
    x, y = regression(k)
    rows = helpers.plain_jacobian(model, x)
    assert edge(model, (x, y)) == pytest.approx(by_definition(rows, 2, 2 / k), rel=1e-6)


def test_sum_against_mean():
    """With reduction='sum' a step of a batch of B is B times as long."""
    model, data = helpers.mlp(4, 6, 2), regression(2)
    mean = edge(model, data, nn.MSELoss())
    # 2/k per sample against 2B
    total = edge(model, data, nn.MSELoss(reduction="sum"))
    assert total == pytest.approx(mean * (2 / 2) / (2 * 2), rel=1e-9)
    loader = DataLoader(TensorDataset(*data), 3, shuffle=True)
    with pytest.raises(flatmin.InputError, match="short last batch of 2"):
        flatmin.torch.analyze(model, loader, nn.MSELoss(reduction="sum"))
    with pytest.raises(flatmin.InputError, match="one batch_size at a time"):
        flatmin.torch.analyze(model, data, nn.MSELoss(reduction="sum"), batch_size=[1, 2])


def test_targets_without_the_axis_of_outputs_would_broadcast():
    x, y = regression()
    with pytest.raises(flatmin.InputError, match=r"\(8, 1\) and targets \(8,\).*broadcast"):
        edge(helpers.mlp(4), (x, y[:, 0]))


def test_kernels_of_n_n_k_k_are_rows_sample_by_sample():
    """The recipe of torch.func for tangent kernels gives n × n × k × k."""
    from torch.func import functional_call, jacrev, vmap

    model, x = helpers.mlp(4, 6, 3), drawn(N, 4)
    params = {name: p.detach() for name, p in model.named_parameters()}
    rows = vmap(jacrev(lambda p, s: functional_call(model, p, (s,))), (None, 0))(params, x)
    kernel = sum(torch.einsum("iax,jbx->ijab", j.flatten(2), j.flatten(2)) for j in rows.values())
    gram = flatmin.torch.gram(model, x)
    np.testing.assert_allclose(
        gram, kernel.permute(0, 2, 1, 3).reshape(3 * N, 3 * N).numpy(), rtol=1e-12
    )
    by_kernel = flatmin.analyze(gram=kernel.numpy(), batch_size=2).threshold().estimate
    by_gram = flatmin.analyze(gram=gram, outputs=3, batch_size=2).threshold().estimate
    assert by_gram == pytest.approx(by_kernel, rel=1e-9)


def test_batch_norm_in_training_mode():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)).double()
    x, y = regression()
    with pytest.raises(
        flatmin.InputError, match=r"1 \(BatchNorm1d\) is in training mode.*eval\(\)"
    ):
        edge(model, (x, y))
    model.eval()
    assert edge(model, (x, y)) > 0


def test_batch_norm_without_running_statistics():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False)).double()
    with pytest.raises(flatmin.InputError, match="track_running_stats=False"):
        flatmin.torch.gram(model.eval(), drawn(N, 4))


def test_batch_statistics_by_function():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2).double()

        def forward(self, x):
            return F.batch_norm(self.layer(x), None, None, training=True)

    class Contrast(Model):
        def forward(self, x):
            h = self.layer(x)
            return h - h.mean(0)

    with pytest.raises(flatmin.InputError, match="fails for a batch of one"):
        flatmin.torch.gram(Model(), drawn(N, 4))
    with pytest.raises(flatmin.InputError, match=r"and a batch of .* a sample has no gradient"):
        flatmin.torch.gram(Contrast(), drawn(N, 4))


def test_dropout():
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 1)).double()
    with pytest.raises(flatmin.InputError, match=r"1 \(Dropout\) .* random.*model\.eval\(\)"):
        edge(model, regression())
    model[1].p = 0.0
    assert edge(model, regression()) > 0

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1).double()

        def forward(self, x):
            return F.dropout(self.layer(x), 0.5)

    with pytest.raises(flatmin.InputError, match=r"training=self\.training"):
        flatmin.torch.gram(Functional().eval(), drawn(N, 4))


@pytest.mark.parametrize("k", [1, 3])
def test_binary_cross_entropy(k):
    """Its curvature p(1 − p) enters, and the mean over k labels."""
    model = nn.Linear(4, k).double()
    x, y = drawn(N, 4), (drawn(N, k, seed=1) > 0).double()
    p = torch.sigmoid(model(x)).detach()
    rows = helpers.plain_jacobian(model, x) * (p * (1 - p) / k).sqrt()[:, :, None].numpy()
    found = edge(model, (x, y), nn.BCEWithLogitsLoss())
    assert found == pytest.approx(by_definition(rows, 2, 1.0), rel=1e-6)


def test_frozen_layers_have_no_columns():
    model, data = helpers.mlp(4, 6, 1), regression()
    whole = edge(model, data)
    model[0].requires_grad_(False)
    features = torch.tanh(model[0](data[0])).detach()
    assert edge(model, data) == pytest.approx(edge(model[2], (features, data[1])), rel=1e-9)
    assert edge(model, data) > whole
    model.requires_grad_(False)
    with pytest.raises(flatmin.InputError, match="requires_grad=False"):
        edge(model, data)


def test_shared_weights_count_once():
    torch.manual_seed(0)
    model = helpers.Tied().double()
    tokens = torch.randint(0, 10, (N, 3))
    found = flatmin.torch.jacobian(model, tokens)
    assert found.shape[2] == 10 * 6 + 10 + 2 * 6
    np.testing.assert_allclose(found, helpers.plain_jacobian(model, tokens), atol=1e-13)


def test_low_rank_adapters():
    """Parametrizations whose base weight is frozen."""

    class Adapter(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(drawn(2, 4))
            self.b = nn.Parameter(drawn(3, 2, seed=1))

        def forward(self, weight):
            return weight + self.b @ self.a

    model = nn.Linear(4, 3).double()
    nn.utils.parametrize.register_parametrization(model, "weight", Adapter())
    model.parametrizations.weight.original.requires_grad_(False)
    x = drawn(N, 4)
    found = flatmin.torch.jacobian(model, x)
    assert found.shape == (N, 3, 3 + 8 + 6)
    np.testing.assert_allclose(found, helpers.plain_jacobian(model, x), atol=1e-13)


def test_bfloat16_weights_are_computed_wider_and_it_is_said():
    model, (x, y) = helpers.mlp(4), regression()
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    with pytest.warns(flatmin.torch.ReadingWarning, match=r"bfloat16: computed in float32"):
        found = edge(rounded, (x.bfloat16(), y.bfloat16()))
    exact = edge(rounded.double(), (x.bfloat16().double(), y))
    assert found == pytest.approx(exact, rel=1e-5)


def test_a_loader_that_shuffles_draws_epochs():
    model, (x, y) = helpers.mlp(4), regression()
    loader = DataLoader(TensorDataset(x, y), 3, shuffle=True)
    found = flatmin.torch.analyze(model, loader).to_dict()["batches"][0]
    assert (found["sampling"], found["drop_last"], found["batch_size"]) == (
        "reshuffling",
        False,
        3,
    )
    loader = DataLoader(TensorDataset(x, y), 3, shuffle=True, drop_last=True)
    assert flatmin.torch.analyze(model, loader).to_dict()["batches"][0]["drop_last"]


def test_shuffling_does_not_mix_up_inputs_and_targets():
    model, (x, y) = helpers.mlp(4), regression()
    loader = DataLoader(TensorDataset(x, y), 2, shuffle=True)
    assert edge(model, loader) == edge(model, (x, y))


def test_a_subset_is_the_callers_choice():
    model, (x, y) = helpers.mlp(4), regression()
    some = Subset(TensorDataset(x, y), [0, 1, 2, 5])
    assert flatmin.torch.analyze(model, some, batch_size=2).samples == 4


def test_a_gram_matrix_without_negative_eigenvalues():
    """Products in float32 give eigenvalues of −1e-7 of the largest, on which roots fail."""
    model = helpers.mlp(4, 64, 1, dtype=torch.float32)
    x = torch.randn(40, 4)
    x[20:] = x[:20]  # of rank 20 at most
    values = np.linalg.eigvalsh(flatmin.torch.gram(model, x))
    assert values.min() > -1e-13 * values.max()


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_recurrent_networks(kind):
    """vmap has no rule for them."""
    model = helpers.Recurrent(kind).double()
    x, y = drawn(N, 5, 4), drawn(N, 2, seed=1)
    assert edge(model, (x, y)) > 0


def test_time_before_samples():
    """batch_first=False takes the samples for time."""
    model = nn.LSTM(4, 2).double()
    with pytest.raises(flatmin.InputError, match="batch_first=False"):
        flatmin.torch.gram(model, drawn(N, 5, 4), output=lambda result: result[0])


def test_attention_with_fused_kernels():
    """Fused kernels have no second derivative and no rule for vmap; the mathematics is the same."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(8, 24)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            return self.head(F.scaled_dot_product_attention(q, k, v, is_causal=True).mean(1))

    model = Model().double()
    x = drawn(N, 5, 8)
    np.testing.assert_allclose(
        flatmin.torch.jacobian(model, x), helpers.plain_jacobian(model, x), atol=1e-13
    )
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=True
    )
    first = {"output": lambda result: result[:, 0, :2]}
    assert flatmin.torch.gram(encoder.double().eval(), x, **first).shape == (2 * N, 2 * N)


def test_huge_numbers_of_parameters_need_no_jacobian():
    """Ten million parameters, within 64 MiB."""
    model = nn.Sequential(nn.Linear(1000, 10_000), nn.ReLU(), nn.Linear(10_000, 1))
    x, y = torch.randn(6, 1000), torch.randn(6, 1)
    with pytest.raises(flatmin.InputError, match=r"flatmin\.torch\.gram"):
        flatmin.torch.jacobian(model, x, memory_limit=1 / 16)
    assert edge(model, (x, y), memory_limit=1 / 16) > 0


@pytest.mark.parametrize("loss", ["mse", "smoothed", "huber"])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_answers_do_not_depend_on_the_memory(loss, make):
    """From the Jacobian where it is small, from the Gram matrix where it is not."""
    model, (x, y) = helpers.mlp(4, 40, 3), regression(3)
    losses = {
        "mse": nn.MSELoss(),
        "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
        "huber": nn.HuberLoss(),
    }
    targets = y.argmax(1) if loss == "smoothed" else y
    optimizer = make(model.parameters(), lr=1e-2, weight_decay=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        losses[loss](model(x), targets).backward()
        optimizer.step()
    answers = [
        flatmin.torch.analyze(
            model, (x, targets), losses[loss], optimizer, batch_size=2, memory_limit=limit
        )
        for limit in (2.0, 2.0**-15)
    ]
    assert answers[0].parameters == answers[1].parameters == 323
    one, other = (answer.threshold().estimate for answer in answers)
    assert one == pytest.approx(other, rel=1e-7)
    one, other = (answer.sharpness.lambda_max for answer in answers)
    assert one == pytest.approx(other, rel=1e-9)


def test_too_many_rows_for_a_matrix():
    model = nn.Linear(4, 10)
    x, y = torch.randn(5000, 4), torch.randn(5000, 10)
    with pytest.raises(flatmin.InputError, match=r"5000 samples × 10.*37\.3 GiB.*1158 samples"):
        flatmin.torch.gram(model, x)
    del y


def test_outputs_of_language_models_are_logits_in_a_dict():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7)

        def forward(self, input_ids, attention_mask):
            h = self.embedding(input_ids) * attention_mask[..., None]
            return {"logits": self.head(h)}

    model = Model().double()
    ids = torch.randint(0, 7, (N, 5))
    batch = ({"input_ids": ids, "attention_mask": torch.ones(N, 5).double()}, ids)
    found = edge(
        model,
        batch,
        nn.CrossEntropyLoss(),
        output=lambda result: result["logits"].transpose(1, 2),
    )
    assert found > 0
    with pytest.raises(flatmin.InputError, match=r"result\['logits'\]"):
        edge(model, batch, nn.CrossEntropyLoss())
    with pytest.raises(flatmin.InputError, match=r"transpose\(1, 2\)"):
        edge(model, batch, nn.CrossEntropyLoss(), output=lambda result: result["logits"])


def test_a_model_that_returns_its_loss():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1).double()

        def forward(self, x):
            return self.layer(x).square().mean()

    with pytest.raises(flatmin.InputError, match="if it returns a loss, give the outputs"):
        flatmin.torch.gram(Model(), drawn(N, 4))


def test_outputs_without_a_graph():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3).double()

        def forward(self, x):
            return self.layer(x).detach()

    with pytest.raises(flatmin.InputError, match=r"torch\.no_grad, detach or argmax"):
        flatmin.torch.gram(Model(), drawn(N, 4))
    with pytest.raises(flatmin.InputError, match="int64, which has no derivative"):
        flatmin.torch.gram(nn.Linear(4, 3).double(), drawn(N, 4), output=lambda r: r.argmax(1))


def test_a_norm_at_zero_has_no_derivative():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3, bias=False).double()

        def forward(self, x):
            return self.layer(x).square().sum(1).sqrt()

    x = drawn(N, 4)
    x[3] = 0
    with pytest.raises(flatmin.InputError, match=r"sample 3 .* not finite; a square root or norm"):
        flatmin.torch.jacobian(Model(), x)


def test_a_diverged_network():
    model = helpers.mlp(4)
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(flatmin.InputError, match="diverge"):
        edge(model, regression())


def test_a_squeezed_output_in_chunks_of_one():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1).double()

        def forward(self, x):
            return self.layer(x).squeeze()

    model, (x, y) = Model(), regression()
    found = edge(model, (x, y[:, 0]), chunk_size=7)
    assert found == pytest.approx(edge(model.layer, (x, y)), rel=1e-12)


def test_autocast_of_the_caller_does_not_round():
    model, data = helpers.mlp(4, dtype=torch.float32), regression()
    data = tuple(part.float() for part in data)
    expected = edge(model, data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert edge(model, data) == pytest.approx(expected, rel=1e-6)


def test_a_list_of_batch_sizes_keeps_the_sampling_of_the_loader():
    loader = DataLoader(TensorDataset(*regression()), 2, shuffle=True)
    found = flatmin.torch.analyze(helpers.mlp(4), loader, batch_size=[N, 2]).to_dict()
    assert [batch["sampling"] for batch in found["batches"]] == ["reshuffling"] * 2


def test_blocks_are_the_parameter_tensors():
    found = flatmin.torch.analyze(helpers.mlp(4), regression(), batch_size=2, blocks=True)
    blocks = found.to_dict()["blocks"]
    assert [block["name"] for block in blocks] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert sum(block["trace"] for block in blocks) == pytest.approx(found.sharpness.trace)


def test_batch_sizes_are_numbers_or_lists_of_them():
    model, data = helpers.mlp(4), regression()
    for sizes in ([1, 2], (1, 2), np.array([1, 2]), range(1, 3)):
        assert flatmin.torch.analyze(model, data, batch_size=sizes).batch_sizes == [1, 2]
    for size in (2.5, "2"):
        with pytest.raises(flatmin.InputError, match="whole number"):
            flatmin.torch.analyze(model, data, batch_size=size)


def test_what_is_read_is_not_given_twice():
    with pytest.raises(flatmin.InputError, match="loss_scale is read from"):
        edge(helpers.mlp(4), regression(), loss_scale=2.0)


def test_data_on_another_device_or_in_another_precision():
    """The default dtype of numpy meets a float32 model: PyTorch's own words are kept."""
    model = helpers.mlp(4, dtype=torch.float32)
    x, y = regression()
    with pytest.raises(flatmin.InputError, match=r"the model fails for these inputs: .*dtype"):
        edge(model, (x, y))
    assert edge(model, (x, y), dtype=torch.float64) > 0
