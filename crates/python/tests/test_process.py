"""Threads, processes, signals, and the command."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import run_command

import flatmin


def edge(seed: int) -> float:
    jacobian = np.random.default_rng(seed).standard_normal((250, 300))
    return flatmin.threshold(jacobian, batch_size=4).estimate


def test_eight_threads_at_once():
    expected = [edge(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(edge, range(8))) == expected


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_other_processes(method):
    expected = [edge(seed) for seed in range(2)]
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map_async(edge, range(2)).get(timeout=120) == expected


def test_other_threads_run_meanwhile():
    """Python code runs while a threshold is computed."""
    jacobian = np.random.default_rng(0).standard_normal((700, 720))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(flatmin.threshold, jacobian)
        steps = 0
        while not future.done():
            steps += 1
            time.sleep(0.001)
    assert steps > 5


LONG = """
import numpy as np, flatmin, sys
jacobian = np.random.default_rng(0).standard_normal((3000, 3000))
try:
    print("ready", flush=True)  # inside: on a busy machine the signal may come before the call
    flatmin.threshold(jacobian)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_is_honoured():
    command = [sys.executable, "-X", "faulthandler", "-c", LONG]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert process.wait(timeout=120) == 0


def test_the_import_is_light():
    code = (
        "import sys, flatmin; "
        "print(sorted(name for name in ('numpy', 'torch', 'jax') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_command_comes_with_the_package():
    done = run_command("--version")
    assert done.returncode == 0
    assert done.stdout.decode().startswith(f"flatmin {flatmin.__version__}")
    done = run_command("analyze", "no such file.npy")
    assert done.returncode == 3 and done.stdout == b""
    assert done.stderr.decode() == "flatmin: no such file.npy: no such file\n"
    assert run_command("analyse").returncode == 2


def test_the_program_of_the_package_is_on_the_path():
    folder = os.path.dirname(sys.executable)
    program = os.path.join(folder, "flatmin")
    if not os.path.exists(program):
        pytest.skip("the package is not installed into this environment")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run_command("--version").stdout.decode()
