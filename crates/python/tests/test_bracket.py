"""Brackets from files of any size, arrays and products, beside exact thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import command_report

import flatmin


def decaying(samples=120, outputs=1, parameters=90, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((samples * outputs, parameters)) / (1 + np.arange(parameters))
    rows *= np.exp(0.4 * rng.standard_normal((samples * outputs, 1)))
    return rows.reshape(samples, outputs, parameters)


def products(jacobian):
    n, k, p = jacobian.shape
    rows = jacobian.reshape(n * k, p)
    return flatmin.JacobianProducts(
        n,
        k,
        p,
        lambda v: rows @ v,
        lambda u: rows.T @ u,
        lambda: np.einsum("iap,ibp->iab", jacobian, jacobian),
    )


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_bracket_holds_the_exact_threshold(outputs, batch_size):
    jacobian = decaying(outputs=outputs)
    exact = flatmin.threshold(jacobian, batch_size=batch_size)
    for given in ({"jacobian": jacobian}, {"products": products(jacobian)}):
        found = flatmin.threshold(**given, batch_size=batch_size, relative_width=0.02)
        assert found.kind == "bracket" and found.confidence > 1 - 1e-8
        assert found.lower <= exact.lower and exact.upper <= found.upper
        assert 1 - found.lower / found.upper <= 0.02
        assert found.estimate == pytest.approx(exact.estimate, rel=0.01)


def test_files_arrays_and_losses_agree(tmp_path):
    jacobian = decaying(outputs=3)
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((120, 3))
    np.savez(tmp_path / "run.npz", jacobian=jacobian, logits=logits)
    words = "--batch-size 1,4 --loss cross-entropy --logits logits --relative-width 0.03"
    expected = command_report(tmp_path / "run.npz", *words.split(), "--array", "jacobian")
    keywords = {"batch_size": [1, 4], "loss": "cross-entropy", "relative_width": 0.03}
    found = flatmin.analyze(jacobian, logits=logits, **keywords)
    assert found.to_dict()["batches"] == expected["batches"]
    assert found.rank is None and found.sharpness.trace == pytest.approx(expected["trace"])
    exact = flatmin.analyze(jacobian, logits=logits, batch_size=[1, 4], loss="cross-entropy")
    by_products = flatmin.analyze(products=products(jacobian), logits=logits, **keywords)
    for batch in (1, 4):
        edge = exact.threshold(batch).estimate
        for analysis in (found, by_products):
            assert analysis.threshold(batch).lower <= edge <= analysis.threshold(batch).upper


def test_a_rank_that_is_too_small_gives_a_wide_bracket():
    found = flatmin.analyze(decaying(), rank=4)
    batch = found.to_dict()["batches"][0]
    assert batch["status"] in {"rank_reached", "memory_spent"} and batch["bracket"]["rank"] <= 40
    assert "bracketed by leading modes" in repr(found)


def test_a_bracket_takes_the_place_of_a_threshold_that_does_not_fit():
    jacobian = decaying()
    exact = flatmin.analyze(jacobian)
    found = flatmin.analyze(jacobian, memory_limit=0.01)
    assert found.threshold().kind == "bracket" and exact.threshold().kind == "certified"
    assert found.threshold().lower <= exact.threshold().upper
    assert exact.threshold().lower <= found.threshold().upper
    assert "Brackets from products take their place" in repr(found)
    assert found.reading == exact.reading != ""
    with pytest.raises(flatmin.InputError, match="memory_limit"):
        flat = jacobian.reshape(len(jacobian), -1)
        flatmin.analyze(gram=flat @ flat.T, memory_limit=0.01)


def test_products_have_no_reading():
    assert flatmin.analyze(products=products(decaying()), relative_width=0.1).reading == ""


def broken(name, function):
    good = products(decaying(outputs=2))
    return good._replace(**{name: function(good)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (broken("vjp", lambda good: lambda u: 2 * good.vjp(u)), "adjoint"),
        (broken("jvp", lambda good: lambda v: good.jvp(v) + 1), "linear|adjoint"),
        (broken("sample_grams", lambda good: lambda: 1.1 * good.sample_grams()), "J_i J_iᵀ"),
        (broken("jvp", lambda good: lambda v: good.jvp(v) * np.nan), "NaN"),
        (broken("jvp", lambda good: lambda v: good.jvp(v)[:-1]), "expected"),
        (broken("vjp", lambda good: lambda u: 1 / 0), "division by zero"),
        (broken("sample_grams", lambda good: lambda: np.ones(3)), "expected"),
    ],
)
def test_wrong_products_are_refused(given, message):
    with pytest.raises(flatmin.InputError, match=message):
        flatmin.threshold(products=given)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sampling": "reshuffling"}, "independent batches"),
        ({"weight_decay": 0.1}, "weight decay"),
        ({"batch_size": 500}, "cannot draw 500 of 120 samples"),
        ({"rank": 0}, "rank"),
        ({"relative_width": -1.0}, "relative_width"),
        ({"almost_sure": True}, "cannot be used with"),
    ],
)
def test_wrong_questions_are_refused(keywords, message):
    keywords = {"relative_width": 0.05} | keywords
    with pytest.raises(flatmin.InputError, match=message):
        flatmin.analyze(decaying(), **keywords)
