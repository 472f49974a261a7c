"""Answers are those of the command, and those of reference values."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from conftest import REFERENCE, command_report, run_command

import flatmin

CASES = json.loads((REFERENCE / "cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_thresholds_are_those_of_naive_routes(case):
    array = np.load(REFERENCE / case["file"])
    found = flatmin.analyze(
        **{case["kind"]: array},
        batch_size=case["batch_size"],
        sampling=case["sampling"],
        trust_input=True,
        tolerance=1e-13,
    )
    expected = float(case["threshold"])
    assert found.threshold().estimate == pytest.approx(expected, rel=case["rel_tol"])
    assert found.sharpness.trace == pytest.approx(case["trace"], rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.npy")), ids=lambda path: path.stem)
def test_answers_are_the_bits_of_the_command(path):
    is_gram = path.stem.startswith("gram")
    array = np.load(path)
    batch = [1, max(1, len(array) // 2)]
    words = [*(["--gram"] if is_gram else []), "--batch-size", ",".join(map(str, batch))]
    expected = command_report(path, *words)
    found = flatmin.analyze(**{"gram" if is_gram else "jacobian": array}, batch_size=batch)
    found = found.to_dict()
    assert found.pop("file") == ("gram" if is_gram else "jacobian")
    assert expected.pop("file") == str(path)
    expected["reading"] = expected["reading"].replace("--residuals", "residuals")
    # A file of single precision says so in its doubts, as the array does.
    assert found == expected


def test_options_mean_the_same(tmp_path):
    rng = np.random.default_rng(3)
    arrays = {
        "jacobian": rng.standard_normal((10, 3, 17)),
        "logits": rng.standard_normal((10, 3)),
        "residuals": 1e-3 * rng.standard_normal((10, 3)),
        "preconditioner": rng.uniform(0.5, 2.0, 17),
    }
    path = tmp_path / "run.npz"
    np.savez(path, **arrays)
    expected = command_report(
        path,
        *"--batch-size 1,4 --learning-rate 0.05,2 --momentum 0.9 --dampening 0.5".split(),
        *"--weight-decay 1e-3 --loss cross-entropy --logits logits --residuals residuals".split(),
        *"--preconditioner preconditioner --loss-scale 0.3 --sampling poisson".split(),
    )
    found = flatmin.analyze(
        **arrays,
        batch_size=[1, 4],
        learning_rate=np.array([0.05, 2.0]),
        momentum=0.9,
        dampening=np.float64(0.5),
        weight_decay=1e-3,
        loss="cross_entropy",
        loss_scale=0.3,
        sampling="poisson",
    ).to_dict()
    for report in (found, expected):
        report.pop("file")
        report.pop("array")
    assert found == expected


def test_the_text_is_that_of_the_command(tmp_path, jacobian, monkeypatch):
    np.save(tmp_path / "jacobian.npy", jacobian)
    done = run_command("analyze", tmp_path / "jacobian.npy", "--learning-rate", "0.01")
    expected = done.stdout.decode().replace(str(tmp_path / "jacobian.npy"), "jacobian")
    for option, keyword in [
        ("give --loss-scale 2.", "give loss_scale=2."),
        ("; --residuals checks it", "; residuals checks it"),
        (
            "or --outputs and --axes; for cross-entropy --loss.",
            "or outputs and axes; for cross-entropy loss.",
        ),
    ]:
        assert option in expected
        expected = expected.replace(option, keyword)
    assert repr(flatmin.analyze(jacobian, learning_rate=0.01)) == expected


def test_parts_of_an_answer(jacobian):
    analysis = flatmin.analyze(jacobian, batch_size=[1, 8], learning_rate=[0.01, 0.02])
    assert (analysis.samples, analysis.outputs, analysis.parameters) == (24, 1, 280)
    assert analysis.sharpness.trace == pytest.approx(np.sum(jacobian**2) / 24)
    top = np.linalg.eigvalsh(jacobian @ jacobian.T / 24)[-1]
    assert analysis.sharpness.lambda_max == pytest.approx(top)
    assert analysis.bounds["S5"] == pytest.approx(2 / top)
    assert analysis.bounds_for(8)["S2"] > analysis.bounds["S2"]
    small, large = analysis.threshold(1), analysis.threshold(batch_size=8)
    assert small.lower <= small.estimate <= small.upper < large.lower
    assert small.kind == "certified" and small.confidence is None
    verdicts = {(v.batch_size, v.learning_rate): v for v in analysis.verdicts}
    assert verdicts[1, 0.01].verdict == "unstable" and verdicts[8, 0.01].verdict == "stable"
    assert verdicts[8, 0.01].margin == pytest.approx(large.estimate / 0.01 - 1)
    with pytest.raises(flatmin.InputError, match=r"expected one of the question's: 1, 8"):
        analysis.threshold()
    assert flatmin.threshold(jacobian, batch_size=8) == large


def test_no_gradient_is_stable_at_every_learning_rate():
    analysis = flatmin.analyze(np.zeros((3, 2)))
    assert analysis.threshold().estimate == float("inf")
    assert analysis.to_dict()["batches"][0]["threshold"]["upper"] == "inf"


def test_parameters_in_a_dictionary(jacobian):
    parts = {"weight": jacobian[:, :200].reshape(24, 10, 20), "bias": jacobian[:, 200:]}
    analysis = flatmin.analyze(parts)
    whole = flatmin.analyze(jacobian)
    assert analysis.threshold().estimate == pytest.approx(whole.threshold().estimate, rel=1e-9)
    blocks = {block["name"]: block for block in analysis.to_dict()["blocks"]}
    assert blocks["weight"]["trace"] == pytest.approx(np.sum(jacobian[:, :200] ** 2) / 24)


def test_blocks_of_columns(jacobian):
    analysis = flatmin.analyze(jacobian, blocks={"first": (0, 100), "rest": True})
    traces = [block["trace"] for block in analysis.to_dict()["blocks"]]
    assert traces == pytest.approx(
        [np.sum(jacobian[:, :100] ** 2) / 24, np.sum(jacobian[:, 100:] ** 2) / 24]
    )


def test_doubts_are_told(jacobian):
    rng = np.random.default_rng(1)
    vanished = jacobian * 1e-9 * rng.standard_normal((24, 1))
    analysis = flatmin.analyze(vanished)
    assert analysis.doubts and "Doubt: " in repr(analysis)
    with pytest.warns(flatmin.DoubtWarning):
        flatmin.threshold(vanished)
    flatmin.threshold(vanished, trust_input=True)


def test_gradients_of_the_loss_are_doubted_without_a_learning_rate():
    """Residuals of 1e-3, of two outputs, whose trace is no reason for a doubt by itself."""
    rng = np.random.default_rng(4)
    gradients = rng.standard_normal((20, 2, 60))
    residuals = 1e-3 * rng.standard_normal((20, 2, 1))
    with pytest.warns(flatmin.DoubtWarning, match="norms of rows differ"):
        flatmin.threshold(residuals * gradients)
    analysis = flatmin.analyze(1e-3 * gradients)  # small outputs, with norms that are alike
    assert not analysis.doubts and "not of the loss" in analysis.reading


def test_momentum_is_exact_and_not_certified(jacobian):
    assert flatmin.threshold(jacobian, momentum=0.9).kind == "exact"
    assert flatmin.threshold(jacobian, weight_decay=1e-3).kind == "exact"
    assert flatmin.threshold(jacobian).kind == "certified"


def test_an_analysis_can_be_pickled(jacobian):
    analysis = flatmin.analyze(jacobian, learning_rate=0.1)
    copy = pickle.loads(pickle.dumps(analysis))
    assert repr(copy) == repr(analysis) and copy.to_dict() == analysis.to_dict()
    assert [batch["batch_size"] for batch in copy.curve()] == [1]


def test_the_curve_has_doubling_batch_sizes(jacobian):
    curve = flatmin.analyze(jacobian, batch_size=3).curve()
    assert [batch["batch_size"] for batch in curve] == [1, 2, 3, 4, 8, 16, 24]
    edges = [float(batch["threshold"]["estimate"]) for batch in curve]
    assert edges == sorted(edges)


def test_pictures(jacobian):
    analysis = flatmin.analyze(jacobian, batch_size=[1, 8], learning_rate=0.01)
    html = analysis._repr_html_()
    assert "<svg" in html and "24 samples" in html
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    ax = analysis.plot()
    labels = [line.get_label() for line in ax.get_lines()]
    assert "threshold η*" in labels and "your learning rate" in labels


def test_results_do_not_depend_on_threads():
    jacobian = np.random.default_rng(2).standard_normal((300, 320))
    one, two = (flatmin.analyze(jacobian, threads=threads).to_dict() for threads in (1, 2))
    assert one == two
