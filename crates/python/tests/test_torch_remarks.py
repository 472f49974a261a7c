"""An answer says what was taken for granted, and what a loader's sampler was read as."""

from __future__ import annotations

import warnings

import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as helpers
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import flatmin
import flatmin.torch

torch.manual_seed(3)
N = 10
X = torch.randn(N, 4).double()
MODEL = helpers.mlp()
Y = MODEL(X).detach() + 1e-8 * torch.randn(N, 1).double()
PAIRS = TensorDataset(X, Y)
SGD = torch.optim.SGD(MODEL.parameters(), lr=0.01)
CHOSEN = [7, 1, 4, 2]


class Backwards(Sampler):
    def __iter__(self):
        return iter(range(N - 1, -1, -1))

    def __len__(self):
        return N


def analyze(*args, **keywords):
    """The answer, with warnings as errors unless they are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return flatmin.torch.analyze(*args, **keywords)


def notes(analysis, words):
    """The notes with these words, each of which stands in the text."""
    found = [note for note in analysis.notes if words in note]
    assert all(f"Note: {note}." in repr(analysis) for note in found)
    return found


def test_a_forgotten_optimizer_is_said():
    words = "no optimizer was given: the answer is for SGD without momentum"
    assert notes(analyze(MODEL, (X, Y), nn.MSELoss(), batch_size=2), words)
    for given in ({"optimizer": SGD}, {"momentum": 0.9}, {"weight_decay": 0.0}):
        assert not notes(analyze(MODEL, (X, Y), nn.MSELoss(), batch_size=2, **given), words)


def test_a_default_batch_size_is_said():
    words = "batches of one sample"
    assert notes(analyze(MODEL, (X, Y), nn.MSELoss(), SGD), words)
    assert notes(analyze(MODEL, PAIRS, nn.MSELoss(), SGD), words)
    assert not notes(analyze(MODEL, (X, Y), nn.MSELoss(), SGD, batch_size=1), words)
    loader = DataLoader(PAIRS, 5, shuffle=True)
    assert not notes(analyze(MODEL, loader, nn.MSELoss(), SGD), words)


def test_a_default_loss_is_said():
    assert notes(analyze(MODEL, (X, Y), optimizer=SGD), "nn.MSELoss()")
    assert not notes(analyze(MODEL, (X, Y), nn.MSELoss(), SGD), "nn.MSELoss()")


def test_nothing_is_remarked_where_all_is_given():
    loader = DataLoader(PAIRS, 5, shuffle=True)
    assert analyze(MODEL, loader, nn.MSELoss(), SGD).notes == []


@pytest.mark.parametrize("as_loader", [False, True])
def test_a_subset_is_said(as_loader):
    data = Subset(PAIRS, CHOSEN)
    data = DataLoader(data, 2, shuffle=True) if as_loader else data
    found = analyze(MODEL, data, nn.MSELoss(), SGD)
    assert found.samples == 4
    assert notes(found, "a Subset, 4 of 10 samples")


def test_a_subset_of_the_sampler_is_said_and_used():
    """Its samples are the training set also where batches are given by keywords."""
    expected = analyze(
        MODEL, (X[CHOSEN], Y[CHOSEN]), nn.MSELoss(), SGD, batch_size=2, sampling="reshuffling"
    )
    sampler = SubsetRandomSampler(CHOSEN)
    inside = DataLoader(PAIRS, batch_sampler=BatchSampler(sampler, 2, False))
    for loader in (DataLoader(PAIRS, 2, sampler=sampler), inside):
        given = {"batch_size": 2, "sampling": "reshuffling"}
        found = analyze(MODEL, loader, nn.MSELoss(), SGD, **given)
        assert notes(found, "draws 4 of the 10 samples")
        assert found.threshold().estimate == expected.threshold().estimate
    found = analyze(MODEL, DataLoader(PAIRS, 2, sampler=sampler), nn.MSELoss(), SGD)
    assert found.threshold().estimate == expected.threshold().estimate


@pytest.mark.parametrize(
    "sampler",
    [WeightedRandomSampler(torch.arange(1.0, N + 1), N), Backwards()],
    ids=["weights", "own"],
)
@pytest.mark.parametrize("given", [{}, {"batch_size": 5}])
def test_another_sampler_is_doubted_where_the_sampling_is_given(sampler, given):
    loader = DataLoader(PAIRS, 5, sampler=sampler)
    with pytest.raises(flatmin.InputError, match=r"unequal probabilities|order is not known"):
        flatmin.torch.analyze(MODEL, loader, nn.MSELoss(), SGD, **given)
    with pytest.warns(flatmin.torch.ReadingWarning, match=type(sampler).__name__):
        found = flatmin.torch.analyze(
            MODEL, loader, nn.MSELoss(), SGD, sampling="with_replacement", **given
        )
    assert notes(found, "all 10 samples of its data set")


def test_a_batch_sampler_of_ones_own_is_doubted():
    loader = DataLoader(PAIRS, batch_sampler=[[0, 1], [2, 3]])
    with pytest.warns(flatmin.torch.ReadingWarning, match="draws by a list"):
        flatmin.torch.analyze(
            MODEL, loader, nn.MSELoss(), SGD, batch_size=2, sampling="reshuffling"
        )


def test_a_loader_that_drops_its_last_batch_is_told_of_none():
    """A bracket is for independent batches."""
    for drop_last in (False, True):
        loader = DataLoader(PAIRS, 4, shuffle=True, drop_last=drop_last)
        with pytest.warns(flatmin.torch.ReadingWarning, match="reshuffles"):
            found = flatmin.torch.analyze(MODEL, loader, nn.MSELoss(), SGD, relative_width=0.05)
        assert found.to_dict()["batches"][0]["sampling"] == "without_replacement"
        assert ("short last batch" in repr(found)) is not drop_last


def test_a_shuffled_loader_is_answered_for_its_epochs_whatever_its_size():
    """A few hundred outputs, with momentum."""
    torch.manual_seed(1)
    x = torch.randn(60, 4, dtype=X.dtype)
    y = torch.randn(60, 3, dtype=X.dtype)
    model = helpers.mlp(outputs=3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = DataLoader(TensorDataset(x, y), 8, shuffle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", flatmin.torch.ReadingWarning)
        found = flatmin.torch.analyze(model, loader, nn.MSELoss(), sgd, trust_input=True)
    assert found.to_dict()["batches"][0]["sampling"] == "reshuffling"


CLASSES = torch.arange(N) % 3
THREE = helpers.mlp(outputs=3)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            (THREE, (X, CLASSES)),
            flatmin.InputError,
            r"no loss was given.*loss=nn.CrossEntropyLoss\(\)",
        ),
        (
            (THREE, (X, CLASSES), nn.MSELoss()),
            flatmin.InputError,
            r"the loss is MSELoss, .* from 0 to 2 .* 3 outputs: .*CrossEntropyLoss",
        ),
        ((MODEL, (X, CLASSES % 2)), flatmin.InputError, "BCEWithLogitsLoss"),
        ((THREE, (X, Y)), flatmin.InputError, r"no loss was given.*give the loss of training"),
        ((MODEL, MODEL(X), nn.MSELoss()), flatmin.InputError, r"one array \(10, 1\).*predictions"),
        ((MODEL, X.numpy(), nn.MSELoss()), flatmin.InputError, r"one array \(10, 4\)"),
        ((nn.Linear, (X, Y)), flatmin.InputError, "model is the class Linear.*trained object"),
        (
            (MODEL, (X, Y), nn.MSELoss(), torch.optim.SGD),
            flatmin.InputError,
            r"optimizer is the class SGD, .*SGD\(model.parameters\(\)",
        ),
        (
            (MODEL, (X, Y), nn.MSELoss),
            flatmin.InputError,
            r"loss is the class MSELoss, .*MSELoss\(\)",
        ),
    ],
)
def test_what_is_not_an_object_of_training_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        flatmin.torch.analyze(*arguments)


def test_predictions_among_the_inputs_are_doubted():
    square = helpers.mlp(outputs=4)
    with pytest.warns(flatmin.torch.ReadingWarning, match="predictions of the model"):
        flatmin.torch.analyze(square, (square(X), X), nn.MSELoss(), batch_size=2)


def test_another_word_for_a_keyword_is_named():
    with pytest.raises(TypeError, match="no keyword lr; is learning_rate=… meant"):
        flatmin.torch.analyze(MODEL, (X, Y), nn.MSELoss(), lr=0.1)
    with pytest.raises(TypeError, match="no keyword criterion; is loss=… meant"):
        flatmin.torch.analyze(MODEL, (X, Y), criterion=nn.MSELoss())


def trained_by_adam(*, biased):
    """A classifier whose first bias, if there is one, is before batch normalisation."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Linear(4, 8, bias=biased), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)
    ).double()
    x, y = torch.randn(24, 4).double(), torch.arange(24) % 3
    loader = DataLoader(TensorDataset(x, y), 8, shuffle=True)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
    return model.eval(), loader, loss, optimizer


def test_a_bias_without_gradient_in_training_mode_is_doubted_for_adam():
    """Its v̂ is rounding, and its derivative in evaluation mode is not."""
    independent = {"sampling": "without_replacement"}
    words = "0.bias decides the answer"
    model, *rest = trained_by_adam(biased=True)
    with pytest.warns(flatmin.torch.ReadingWarning, match=words):
        doubted = flatmin.torch.analyze(model, *rest, **independent)
    assert notes(doubted, words)
    names = [name for name, _ in model.named_parameters() if name != "0.bias"]
    without = analyze(model, *rest, params=names, **independent)
    assert without.threshold().estimate > 100 * doubted.threshold().estimate
    assert not notes(analyze(*trained_by_adam(biased=False), **independent), "decides the answer")


def test_layers_that_act_otherwise_in_training_are_said():
    model, loader, loss, optimizer = trained_by_adam(biased=False)
    found = analyze(model, loader, loss, optimizer, sampling="without_replacement")
    assert notes(found, "batch normalisation") and not notes(found, "dropout")
    dropping = nn.Sequential(MODEL, nn.Dropout(0.1)).eval()
    optimizer = torch.optim.SGD(dropping.parameters(), lr=0.01)
    found = analyze(dropping, (X, Y), nn.MSELoss(), optimizer, batch_size=2)
    assert notes(found, "without it") and not notes(found, "batch normalisation")


@pytest.mark.parametrize(
    ("loss", "targets", "are_hard"),
    [
        (nn.CrossEntropyLoss(), torch.arange(N) % 3, True),
        (nn.functional.cross_entropy, torch.arange(N) % 3, True),
        (nn.CrossEntropyLoss(), torch.eye(3).double()[torch.arange(N) % 3], True),
        (nn.CrossEntropyLoss(label_smoothing=0.1), torch.arange(N) % 3, False),
        (nn.BCEWithLogitsLoss(), torch.eye(3).double()[torch.arange(N) % 3], True),
        (nn.BCEWithLogitsLoss(), 0.2 + 0.6 * torch.eye(3).double()[torch.arange(N) % 3], False),
        (nn.MSELoss(), torch.eye(3).double()[torch.arange(N) % 3], False),
    ],
)
def test_hard_labels_are_said(loss, targets, are_hard):
    model = helpers.mlp(outputs=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    found = analyze(model, (X, targets), loss, optimizer, batch_size=2)
    assert bool(notes(found, "labels are hard")) is are_hard


@pytest.mark.parametrize("name", ["weight_decay", "decoupled_weight_decay"])
def test_weight_decay_beyond_the_memory_is_refused_with_a_way_out(name):
    given = {"batch_size": 2, "memory_limit": 1e-7, name: 0.01}
    with pytest.raises(flatmin.InputError, match=f"memory_limit.*give {name}=0. for"):
        flatmin.torch.analyze(MODEL, (X, Y), nn.MSELoss(), **given)


def test_a_model_and_data_in_the_wrong_order_are_named():
    with pytest.raises(flatmin.InputError, match="model is a DataLoader"):
        flatmin.torch.analyze(DataLoader(PAIRS, 5), MODEL, nn.MSELoss(), SGD)


def test_a_batch_beyond_the_data_is_refused_without_talk_of_axes():
    model = helpers.mlp(outputs=3)
    with pytest.raises(flatmin.InputError, match="10 samples") as refused:
        flatmin.torch.analyze(model, (X, torch.zeros(N, 3).double()), batch_size=64)
    assert "axes" not in str(refused.value)


def test_products_give_torch_arrays_that_it_may_write_to():
    given = {"batch_size": 2, "relative_width": 0.05, "memory_limit": 1e-5}
    torch.set_warn_always(True)
    try:
        assert analyze(MODEL, (X, Y), nn.MSELoss(), SGD, **given)
    finally:
        torch.set_warn_always(False)


def test_adam_is_told_by_which_words_it_is_answered_for():
    model, *rest = trained_by_adam(biased=False)
    found = analyze(model, *rest, sampling="without_replacement")
    assert notes(found, "Adam is answered for as SGD with momentum 0.9 and dampening 0.9")
    plain = torch.optim.SGD(MODEL.parameters(), lr=0.01)
    assert not notes(analyze(MODEL, (X, Y), nn.MSELoss(), plain, batch_size=2), "answered for as")
