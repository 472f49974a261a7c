"""What the export scripts of this folder share: files for `flatmin`, the call, and its answer in words.

Needs numpy only. The binary is the one named by the environment variable FLATMIN, or `flatmin` on PATH.
"""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import textwrap

import numpy as np


def arguments(description, *, learning_rate, steps):
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--format", choices=["npy", "npz", "safetensors"], default="npy", help="of the Jacobian")
    parser.add_argument("--no-analyze", action="store_true", help="write the files, print the command, do not run it")
    parser.add_argument("--replay", action="store_true", help="also record a run that `flatmin train` can replay")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def report_training(options, batch_size, loss):
    """Says how training ended; at a learning rate beyond the edge it does not end at a minimum."""
    run = f"{options.steps} steps, batches of {batch_size}, learning rate {options.learning_rate}"
    print(f"trained: {run}, loss {loss:.3g}")
    if not loss < 1e-6:
        sys.exit("training did not come to a minimum of loss zero: try a smaller --learning-rate or more --steps")


def save_jacobian(folder, jacobian, file_format):
    """Writes the n × p Jacobian; in an archive the array is called `jacobian`."""
    path = folder / f"jacobian.{file_format}"
    if file_format == "npy":
        np.save(path, jacobian)
    elif file_format == "npz":
        np.savez(path, jacobian=jacobian)
    else:
        from safetensors.numpy import save_file

        save_file({"jacobian": np.ascontiguousarray(jacobian)}, path)
    return path


def save_blocks(folder, sizes):
    """Writes name → [first, end) columns for consecutive blocks of the given sizes."""
    blocks, first = {}, 0
    for name, size in sizes.items():
        blocks[name] = [first, first + size]
        first += size
    path = folder / "blocks.json"
    path.write_text(json.dumps(blocks, indent=2) + "\n")
    return path


def run(command, *, do_run=True):
    """Runs `flatmin …` and returns its standard output, or says what to run and returns None."""
    binary = os.environ.get("FLATMIN") or shutil.which("flatmin")
    if not do_run or binary is None:
        reason = "not run, as asked" if not do_run else "no flatmin on PATH and FLATMIN is not set"
        print(f"{reason}; to run it:\n\n    {shlex.join(['flatmin', *command])}\n")
        return None
    print(f"$ {shlex.join(['flatmin', *command])}")
    done = subprocess.run([binary, *command], stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode != 0:  # flatmin has said why on standard error
        sys.exit(f"flatmin stopped with exit status {done.returncode}")
    return done.stdout


def analyze(jacobian, blocks, *, batch_sizes, learning_rate, loss_scale, do_run=True):
    """Calls `flatmin analyze` and returns its JSON as a dictionary, or None where it was not run."""
    command = ["analyze", str(jacobian), "--batch-size", ",".join(map(str, batch_sizes))]
    command += ["--learning-rate", repr(learning_rate), "--loss-scale", repr(loss_scale)]
    command += ["--blocks", str(blocks), "--format", "json"]
    output = run(command, do_run=do_run)
    return None if output is None else json.loads(output)


def conclusion(report, *, trained_with):
    """One paragraph from the JSON; `float` also reads the word "inf"."""
    text = [f"{report['samples']} samples, {report['parameters']} parameters, rank {report['rank']}."]
    for batch in report["batches"]:
        at, bounds = batch["learning_rates"][0], batch["bounds"]
        role = "as it was trained" if batch["batch_size"] == trained_with else "had it been trained so"
        text.append(
            f"With batches of {batch['batch_size']}, {role}, SGD is mean-square stable at this minimum up to a "
            f"learning rate of {float(batch['threshold']['lower']):.5g}, so that it is {at['verdict']} at "
            f"{at['learning_rate']:g}; the trace bound would have said {float(bounds['S2']):.5g}, the largest "
            f"eigenvalue {float(bounds['S5']):.5g}."
        )
    return textwrap.fill(" ".join(text), 100)


def save_replay(folder, *, x, y, w, a, order, learning_rate):
    """Writes what `flatmin train` needs to repeat a run of f(x) = Σ a_j relu(w_j·x), loss (1/2B) Σ (f − y)²."""
    np.savez(folder / "data.npz", x=np.asarray(x, np.float64), y=np.asarray(y, np.float64))  # n×d, n
    np.savez(folder / "initial.npz", w=np.asarray(w, np.float64), a=np.asarray(a, np.float64))  # m×d, m
    np.save(folder / "order.npy", np.asarray(order, np.int64))  # T×B: the samples of every step
    (folder / "replay.toml").write_text(
        f"""\
data = "data.npz"
initial = "initial.npz"
order = "order.npy"

[model]
kind = "two-layer-relu"
width = {len(a)}

[optimizer]
learning_rate = {learning_rate!r}
"""
    )


def replay(folder, *, w, a, do_run=True):
    """Repeats the run of `save_replay` with `flatmin train` and compares where it ends with w and a."""
    shutil.rmtree(folder / "replay", ignore_errors=True)  # an earlier replay, which would be in the way
    if run(["train", str(folder / "replay.toml")], do_run=do_run) is None:
        return
    end = np.load(folder / "replay" / "parameters.npz")
    here = np.concatenate([np.ravel(w), a])
    difference = np.linalg.norm(np.concatenate([end["w"].ravel(), end["a"]]) - here) / np.linalg.norm(here)
    print(f"replayed: the parameters at the end differ by {difference:.1e}, relative")
