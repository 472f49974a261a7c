"""Bad input gives an exception that says what is wrong, and never ends the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

import flatmin

GOOD = np.random.default_rng(0).standard_normal((6, 9))
NAN = np.where(np.eye(6, 9) > 0, np.nan, GOOD)


class Hostile:
    """An array whose protocol fails."""

    def __array__(self, *_, **__):
        raise RuntimeError("the device is gone")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "give either jacobian or gram"),
        ({"jacobian": GOOD, "gram": GOOD}, "give either jacobian or gram"),
        ({"jacobian": "jacobian.npy"}, "is the name of a file"),
        ({"jacobian": NAN}, r"entry \(0, 0\) of the Jacobian is NaN"),
        ({"jacobian": GOOD * np.inf}, "expected a finite number"),
        ({"jacobian": GOOD * 1j}, "holds complex numbers"),
        ({"jacobian": [["a", "b"]]}, "holds text"),
        ({"jacobian": [[1.0], [1.0, 2.0]]}, "is no array of numbers"),
        ({"jacobian": [[None]]}, "jacobian: holds"),
        ({"jacobian": Hostile()}, "the device is gone|is no array"),
        ({"jacobian": np.zeros((0, 3))}, "shape"),
        ({"jacobian": np.zeros((3, 0))}, "shape"),
        ({"jacobian": 3.0}, "single number|shape"),
        ({"jacobian": np.zeros((2,) * 5)}, "axes|shape"),
        ({"jacobian": np.ma.masked_equal(GOOD, GOOD[0, 0])}, "masked entries"),
        ({"jacobian": np.array([[2**60 + 1, 1]])}, "cannot hold exactly"),
        ({"jacobian": np.array([[True, False]])}, "jacobian: holds"),
        ({"jacobian": {}}, "holds no"),
        ({"jacobian": {"a": GOOD, "b": GOOD[:3]}}, "3"),
        ({"jacobian": {"residuals": GOOD}, "residuals": np.ones(6)}, 'is called "residuals"'),
        ({"gram": GOOD}, "has shape"),
        ({"gram": -np.eye(3)}, "negative|semidefinite"),
        ({"gram": np.triu(np.ones((3, 3)))}, "symmetric"),
        ({"jacobian": GOOD, "batch_size": 0}, "batch_size"),
        ({"jacobian": GOOD, "batch_size": 7}, "batch"),
        ({"jacobian": GOOD, "batch_size": "many"}, "batch_size"),
        ({"jacobian": GOOD, "batch_size": 1.5}, "batch_size"),
        ({"jacobian": GOOD, "learning_rate": -0.1}, "learning_rate"),
        ({"jacobian": GOOD, "learning_rate": float("nan")}, "learning_rate"),
        ({"jacobian": GOOD, "learning_rate": object()}, "learning_rate"),
        ({"jacobian": GOOD, "momentum": 1.0}, "momentum"),
        ({"jacobian": GOOD, "nesterov": True}, "momentum"),
        ({"jacobian": GOOD, "sampling": "random"}, "sampling"),
        ({"jacobian": GOOD, "loss": "hinge"}, "loss"),
        ({"jacobian": GOOD, "loss": "cross-entropy"}, "need logits"),
        ({"jacobian": GOOD, "residuals": np.ones(5)}, "residuals"),
        ({"jacobian": GOOD, "preconditioner": np.zeros(9)}, "preconditioner|positive"),
        ({"jacobian": GOOD, "axes": "abc"}, "axes"),
        ({"jacobian": GOOD, "blocks": {"a": (3, 99)}}, "blocks"),
        ({"jacobian": GOOD, "blocks": {"a": "b"}}, "blocks"),
        ({"jacobian": GOOD, "blocks": 3}, "blocks"),
        ({"gram": np.eye(3), "blocks": {"a": (0, 2)}}, "no columns"),
        ({"jacobian": {"a": GOOD}, "blocks": {"a": (0, 2)}}, "a block for each"),
        ({"jacobian": GOOD, "threads": 0}, "threads"),
        ({"jacobian": GOOD, "memory_limit": 0.0}, "memory_limit"),
        ({"jacobian": GOOD, "tolerance": 0.0}, "tolerance"),
    ],
)
def test_bad_input_is_refused(keywords, message):
    with pytest.raises(flatmin.InputError, match=message) as caught:
        flatmin.analyze(**keywords)
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [("momentun", "momentum"), ("lr", "learning_rate"), ("bs", "batch_size"), ("xyz", None)],
)
def test_an_unknown_keyword_is_a_type_error_that_names_the_one_meant(keyword, meant):
    text = f"no keyword {keyword}; is {meant}=… meant" if meant else r"help\(flatmin.analyze\)"
    for function in (flatmin.analyze, flatmin.threshold):
        with pytest.raises(TypeError, match=text):
            function(GOOD, **{keyword: 0.9})


def test_an_input_error_is_a_value_error():
    assert issubclass(flatmin.InputError, ValueError)


def test_a_matrix_beyond_the_memory_limit_is_bracketed():
    exact = flatmin.analyze(GOOD).threshold()
    analysis = flatmin.analyze(GOOD, memory_limit=1e-9)
    bracket = analysis.threshold()
    assert bracket.kind == "bracket"
    # Both hold η*, and both are narrow: the bracket has all modes of this small matrix.
    assert bracket.lower <= exact.upper and exact.lower <= bracket.upper
    assert bracket.upper / bracket.lower - 1 < 1e-8
    assert "more than memory_limit=1e-9" in str(analysis)
