"""Messages name keywords of Python, never options of the command."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import flatmin
from flatmin._words import in_python

SOURCES = Path(__file__).parents[2] / "cli" / "src"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("give --axes kn,p --outputs 3.", 'give axes="kn,p", outputs=3.'),
        ("give --outputs k or --samples n", "give outputs=k or samples=n"),
        (
            "give --gram --outputs 3, or --trust-input",
            "give gram=…, outputs=3, or trust_input=True",
        ),
        ("without --gram it is", "without gram=… it is"),
        ("give --loss-scale 2;\nif", "give loss_scale=2;\nif"),
        ("Loss 2 × x (--loss-scale), so", "Loss 2 × x (loss_scale), so"),
        ("more than --memory-limit 16; give", "more than memory_limit=16; give"),
        ("or --sampling with-replacement", 'or sampling="with_replacement"'),
        (
            "see --sampling reshuffling and --drop-last.",
            'see sampling="reshuffling" and drop_last=True.',
        ),
        ("--loss cross-entropy and --logits", 'loss="cross-entropy" and logits'),
        ("value 'x' for '--batch-size <B,…>': no", "value 'x' for 'batch_size': no"),
        ("give --axes in the order", "give axes in the order"),
        ("--residuals of shape (10 × 3)", "residuals of shape (10 × 3)"),
        ("leave out --sum-arrays to", "leave out jacobian={…} to"),
        ("a dash – and a--b and -- alone", "a dash – and a--b and -- alone"),
    ],
)
def test_options_become_keywords(text, expected):
    assert in_python(text) == expected


def test_every_option_of_a_message_has_a_keyword():
    """Options that a message may name, found in the program's own sources."""
    files = [*SOURCES.glob("analyze/**/*.rs"), *(SOURCES / f"{n}.rs" for n in ("edge", "batches"))]
    names = {
        name for file in files for name in re.findall(r"--([a-z][a-z-]+[a-z])", file.read_text())
    }
    assert {"residuals", "axes", "gram", "sum-arrays"} <= names
    # Parts of the command that Python does not ask for.
    names -= {"array", "check", "figure", "format", "population", "subsets", "sum-arrays"}
    keywords = set(inspect.signature(flatmin.analyze).parameters)
    assert {in_python(f"--{name}").split("=")[0] for name in names} <= keywords


RNG = np.random.default_rng(5)
NETWORK = RNG.standard_normal((8, 3, 40))
ANSWERS = [
    {"jacobian": NETWORK[:, 0]},
    {"jacobian": NETWORK[:, 0], "loss_scale": 2, "learning_rate": 0.1, "residuals": np.zeros(8)},
    {"jacobian": NETWORK, "batch_size": 3},
    {"jacobian": NETWORK.transpose(1, 0, 2), "axes": "knp"},
    {"jacobian": NETWORK[:, 0].T},
    {"jacobian": NETWORK[:, 0] @ NETWORK[:, 0].T},
    {"gram": NETWORK[:, 0] @ NETWORK[:, 0].T},
    {"gram": (NETWORK[:, 0] @ NETWORK[:, 0].T).astype(np.float32)},
    {"jacobian": np.repeat(NETWORK[:, 0], 2, axis=0)},
    {"jacobian": NETWORK[:, 0], "loss": "custom", "output_hessian": np.ones(8)},
    {"jacobian": NETWORK[:, 0], "blocks": {"a": (0, 10)}},
    {"jacobian": np.zeros((4, 5)), "trust_input": True},
    {"jacobian": NETWORK[:, 0], "batch_size": 3, "sampling": "reshuffling", "drop_last": True},
    {"jacobian": NETWORK[:, 0], "relative_width": 0.05},
    {"jacobian": {"a": NETWORK, "b": NETWORK}},
]
REFUSED = [
    {"jacobian": NETWORK, "residuals": np.zeros((3, 8))},
    {"jacobian": NETWORK, "samples": 3},
    {"jacobian": NETWORK[:, 0], "outputs": 3},
    {"jacobian": NETWORK[:, 0], "loss": "custom"},
    {"jacobian": NETWORK[:, 0], "drop_last": True, "sampling": "poisson"},
    {"jacobian": NETWORK[:, 0], "weight_decay": 0.1, "decoupled_weight_decay": 0.1},
    {"jacobian": NETWORK[:, 0], "sampling": "reshuffling", "rank": 3},
    {"jacobian": NETWORK[:, 0], "axes": "n,kp"},
    {"jacobian": NETWORK[:, 0], "preconditioner": np.ones(3)},
    {"jacobian": np.ones((2, 3, 4, 5))},
    {"jacobian": {"a": NETWORK, "b": NETWORK[:4]}},
    {"jacobian": {"a": NETWORK}, "blocks": {"a": (0, 3)}},
    {"gram": NETWORK[:, 0], "axes": "np"},
    {"gram": np.eye(6), "preconditioner": np.ones(9)},
    {"gram": np.eye(6), "blocks": {"a": (0, 3)}},
]


@pytest.mark.parametrize("question", ANSWERS, ids=range(len(ANSWERS)))
def test_no_answer_names_an_option(question):
    analysis = flatmin.analyze(**question)
    assert "--" not in repr(analysis)
    texts = [analysis.reading, *(doubt.text for doubt in analysis.doubts)]
    assert not any("--" in text for text in texts)


@pytest.mark.parametrize("question", REFUSED, ids=range(len(REFUSED)))
def test_no_refusal_names_an_option(question):
    with pytest.raises(flatmin.InputError) as caught:
        flatmin.analyze(**question)
    assert "--" not in str(caught.value)
