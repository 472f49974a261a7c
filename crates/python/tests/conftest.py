"""Data and programs that several tests use."""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

faulthandler.enable()

#: Reference values by naive routes, which the tests of the crate flatmin-theory use too.
REFERENCE = Path(__file__).parents[2] / "theory" / "tests" / "data"


@pytest.fixture
def jacobian() -> np.ndarray:
    """A Jacobian of 24 samples and 280 parameters."""
    return np.random.default_rng(0).standard_normal((24, 280))


def run_command(*words: object) -> subprocess.CompletedProcess[bytes]:
    """Runs the command that comes with the package."""
    command = [sys.executable, "-m", "flatmin", *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False, timeout=300)


def command_report(*words: object) -> dict:
    """The JSON that the command prints."""
    done = run_command("analyze", *words, "--format", "json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
