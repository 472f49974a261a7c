"""Samples and batches are read from tensors, data sets and loaders."""

from __future__ import annotations

import random

import numpy as np
import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as helpers
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import flatmin
import flatmin.torch
from flatmin.torch._data import read_data

N = 10
X = torch.arange(3.0 * N).reshape(N, 3)
Y = torch.arange(1.0 * N).reshape(N, 1)
PAIRS = TensorDataset(X, Y)


class Pairs(Dataset):
    """Items by index, as images in folders are."""

    def __init__(self, item=lambda i: (X[i], int(Y[i]))):
        self.item = item

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.item(i)


LOADERS = {
    "shuffle": (DataLoader(PAIRS, 4, shuffle=True), (4, "reshuffling", False)),
    "drop_last": (DataLoader(PAIRS, 4, shuffle=True, drop_last=True), (4, "reshuffling", True)),
    "replacement": (
        DataLoader(PAIRS, 4, sampler=RandomSampler(PAIRS, replacement=True)),
        (4, "with_replacement", False),
    ),
    "all in one batch": (DataLoader(PAIRS, 64), (N, "without_replacement", False)),
    "batch sampler of PyTorch": (
        DataLoader(PAIRS, batch_sampler=BatchSampler(RandomSampler(PAIRS), 4, False)),
        None,
    ),
    "by index": (DataLoader(Pairs(), 4, shuffle=True), (4, "reshuffling", False)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_loaders(name):
    loader, expected = LOADERS[name]
    if expected is None:
        with pytest.raises(flatmin.InputError, match=r"batch_size=…, sampling=…"):
            read_data(loader)
        samples = read_data(loader, batch_size=4, sampling="reshuffling")
        expected = (4, "reshuffling", False)
    else:
        samples = read_data(loader)
        assert samples.notes == []
    assert (samples.batch_size, samples.sampling, samples.drop_last) == expected
    assert torch.equal(samples.inputs[0][0], X)
    assert torch.equal(torch.as_tensor(samples.targets).reshape(-1).float(), Y.reshape(-1))


def test_a_subset_of_the_sampler_is_the_training_set():
    loader = DataLoader(PAIRS, 2, sampler=SubsetRandomSampler([7, 1, 4, 2]))
    samples = read_data(loader)
    assert torch.equal(samples.targets.reshape(-1), torch.tensor([7.0, 1, 4, 2]))
    assert samples.sampling == "reshuffling"
    assert read_data(Subset(PAIRS, [1, 2])).count == 2


def test_a_fixed_order_is_doubted():
    samples = read_data(DataLoader(PAIRS, 4))
    assert samples.sampling == "without_replacement"
    assert "fixed order" in samples.notes[0]
    model = helpers.mlp(3)
    with pytest.warns(flatmin.torch.ReadingWarning, match="fixed order") as seen:
        flatmin.torch.analyze(model.float(), DataLoader(PAIRS, 4))
    assert seen[0].filename == __file__  # the line of the caller
    assert read_data(DataLoader(PAIRS, 4), sampling="reshuffling").notes == []


class Backwards(Sampler):
    def __iter__(self):
        return iter(range(N - 1, -1, -1))

    def __len__(self):
        return N


class Endless(IterableDataset):
    def __iter__(self):
        yield X[0], Y[0]


def ragged(i):
    return torch.ones(i + 1), 0.0


REFUSED = {
    "iterable": (DataLoader(Endless(), 4), "IterableDataset.*collect the training set"),
    "iterable set": (Endless(), "IterableDataset"),
    "no batches": (DataLoader(PAIRS, batch_size=None), "does not batch.*batch_size=…"),
    "own batches": (
        DataLoader(PAIRS, batch_sampler=[[0, 1], [2, 3]]),
        r"has a list, whose batches are not known",
    ),
    "own order": (DataLoader(PAIRS, 4, sampler=Backwards()), "Backwards, whose order"),
    "weights": (
        DataLoader(PAIRS, 4, sampler=WeightedRandomSampler([1.0] * N, N)),
        "unequal probabilities",
    ),
    "part of an epoch": (
        DataLoader(PAIRS, 4, sampler=RandomSampler(PAIRS, num_samples=6)),
        "draws 6 of 10",
    ),
    "three parts": (TensorDataset(X, X, Y), r"3 parts.*unpack=lambda batch"),
    "three tensors": ((X, X, Y), r"\(\(x1, x2\), y\)"),
    "dict items": (Pairs(lambda i: {"ids": X[i], "labels": Y[i]}), r"'ids', 'labels'.*unpack"),
    "ragged": (Pairs(ragged), "do not fit into one batch"),
    "augmented": (Pairs(lambda i: (X[i] + torch.rand(3), Y[i])), "augmentation off"),
    "augmented by numpy": (Pairs(lambda i: (X[i] + np.random.rand(), Y[i])), "augmentation off"),
    "strings": (Pairs(lambda i: (f"text {i}", Y[i])), "a str among"),
    "other lengths": ((X, Y[:4]), "4 and 10 rows"),
    "empty": ((X[:0], Y[:0]), "empty"),
    "a number": (3, "expected tensors"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_do(name):
    data, text = REFUSED[name]
    with pytest.raises(flatmin.InputError, match=text):
        read_data(data)


def test_unpack_names_inputs_and_targets():
    def item(i):
        return {"ids": X[i], "mask": X[i] > 3, "labels": Y[i]}

    def unpack(batch):
        return {"ids": batch["ids"], "mask": batch["mask"]}, batch["labels"]

    samples = read_data(Pairs(item), unpack=unpack)
    assert samples.inputs[0] == () and set(samples.inputs[1]) == {"ids", "mask"}
    loader = DataLoader(Pairs(item), 4, shuffle=True)
    assert read_data(loader, unpack=unpack).batch_size == 4


def test_the_collate_function_pads_all_samples_alike():
    def collate(items):
        longest = max(len(x) for x, _ in items)
        rows = [torch.cat([x, x.new_zeros(longest - len(x))]) for x, _ in items]
        return torch.stack(rows), torch.tensor([y for _, y in items])

    samples = read_data(DataLoader(Pairs(ragged), 4, shuffle=True, collate_fn=collate))
    assert samples.inputs[0][0].shape == (N, N)


def test_random_numbers_are_left_as_they_were():
    def item(i):
        torch.rand(1), np.random.rand(), random.random()
        return X[i], Y[i]

    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    read_data(DataLoader(Pairs(item), 4, shuffle=True))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


def test_arrays_of_numpy_and_lists():
    samples = read_data((X.numpy(), Y.numpy()))
    assert torch.equal(samples.inputs[0][0], X)
    assert read_data(((X, X), Y)).inputs[0][1] is not None


def test_the_sequential_sampler_is_the_default_of_loaders():
    """The check for a fixed order relies on it."""
    assert type(DataLoader(PAIRS, 4).sampler) is SequentialSampler
