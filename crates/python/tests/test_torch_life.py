"""Optimizers of PyTorch stay below the edge that the one-liner names, and leave above it.

Single runs may stay a little beyond the edge of the mean square, so that the runs above start at
1.3 times η*; `torch_life.py` prints the table with 1.1 too.
"""

from __future__ import annotations

import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as _  # noqa: F401 (one thread)
import torch_life as life


@pytest.mark.parametrize("case", life.cases(), ids=lambda case: case.name)
def test_runs_return_inside_of_the_edge_and_leave_beyond(case):
    rate = life.edge(case)
    assert life.change(case, 0.9 * rate, seeds=3, far=5.0) < 0.5
    assert life.change(case, 1.3 * rate, seeds=3, far=5.0) > 2.0
