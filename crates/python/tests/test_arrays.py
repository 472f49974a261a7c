"""Arrays of any type and library."""

from __future__ import annotations

import numpy as np
import pytest

import flatmin


def edge(array, **keywords):
    return flatmin.threshold(array, trust_input=True, **keywords).estimate


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda a: a.astype(">f8"),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
        lambda a: a.tolist(),
        lambda a: np.ma.masked_array(a),
        lambda a: a.astype(np.float64)[:, None, :][:, 0],
    ],
    ids=["fortran", "big_endian", "strided", "reversed", "lists", "unmasked", "view"],
)
def test_the_layout_does_not_matter(change, jacobian):
    assert edge(change(jacobian)) == edge(jacobian)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint16", "int64"])
def test_every_type_is_widened_exactly(dtype, jacobian):
    narrow = (10 * jacobian).astype(dtype)
    assert edge(narrow) == edge(narrow.astype(np.float64))


def test_the_type_is_named(jacobian):
    assert "float32" in repr(flatmin.analyze(jacobian.astype(np.float32)))


class OnlyDlpack:
    """An array of a library that numpy does not know."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_dlpack(jacobian):
    assert edge(OnlyDlpack(jacobian)) == edge(jacobian)


def test_read_only_arrays(jacobian):
    jacobian.flags.writeable = False
    assert edge(jacobian) > 0


def test_large_arrays_are_not_copied():
    """The memory of the process grows by much less than a second copy of the array."""
    resource = pytest.importorskip("resource")
    jacobian = np.random.default_rng(0).standard_normal((16, 4_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    flatmin.threshold(jacobian)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # Three blocks of 128 MiB are in memory at a time, whatever the size of the array.
    assert grown < jacobian.nbytes + (64 << 20)


def test_tensors_of_pytorch(jacobian):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(jacobian, requires_grad=True)
    assert edge(tensor) == edge(jacobian)
    assert edge(tensor.T.contiguous().T) == edge(jacobian)
    half = tensor.to(torch.bfloat16)
    assert edge(half) == edge(half.double())
    assert "bfloat16" in repr(flatmin.analyze(half))
    assert edge(torch.eye(4).to_sparse()) == edge(np.eye(4))


def test_arrays_of_jax(jacobian):
    jnp = pytest.importorskip("jax.numpy")
    array = jnp.asarray(jacobian)
    assert edge(array) == edge(np.asarray(array))
    half = array.astype(jnp.bfloat16)
    assert edge(half) == edge(np.asarray(half).astype(np.float64))
