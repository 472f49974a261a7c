"""The Python examples of the book and of the package's page run, and print what the pages show."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = ["docs/python.md", "crates/python/README.md", "README.md"]

#: Modules that a block needs if its code matches; the block is skipped where one is missing.
NEEDS = {"torch": r"\btorch\b", "jax": r"\bjax\b", "optax": r"\boptax\b", "matplotlib": r"\.plot\("}


@dataclass
class Block:
    """A block of Python code, and the block of text that follows it at once, its output."""

    line: int
    code: str
    output: str | None


def blocks(page: str) -> list[Block]:
    """The blocks of Python code of a page, in order."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found: list[Block] = []
    end = 0
    for match in fence.finditer(page):
        language, text = match.groups()
        line = page.count("\n", 0, match.start()) + 1
        is_next = bool(found) and not page[end : match.start()].strip()
        if language == "python":
            found.append(Block(line, text, None))
        elif language == "text" and is_next and found[-1].output is None:
            found[-1].output = text
        end = match.end()
    return found


def pattern(shown: str) -> str:
    """A regular expression for an output in which a line ``...`` stands for any lines."""
    lines = shown.removesuffix("\n").split("\n")
    return "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in lines)


def missing(code: str) -> list[str]:
    """The modules that the code needs and that are not installed."""
    needed = (module for module, word in NEEDS.items() if re.search(word, code))
    return [module for module in needed if importlib.util.find_spec(module) is None]


def training_script() -> dict[str, object]:
    """The objects of a training script, which short pages take for granted."""
    names: dict[str, object] = {}
    if not missing("torch"):
        import torch
        from torch import nn

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, 1)).double()
        x = torch.randn(8, 3).double()
        data = torch.utils.data.TensorDataset(x, model(x).detach())
        names["loader"] = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)
        names["optimizer"] = torch.optim.SGD(model.parameters(), lr=1e-3)
        names["model"], names["loss"] = model, nn.MSELoss()
    if not missing("jax optax"):
        import jax.numpy as jnp
        import optax

        params, x = jnp.array([[1.0], [2.0], [3.0]]), jnp.eye(8, 3)
        tx = optax.sgd(1e-3, momentum=0.9)
        names |= {"params": params, "x": x, "y": x @ params, "tx": tx, "state": tx.init(params)}
        names["apply"] = lambda params, x: x @ params
        names["loss_function"] = lambda outputs, targets: jnp.mean((outputs - targets) ** 2)
    return names


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    if importlib.util.find_spec("matplotlib") is not None:
        import matplotlib

        matplotlib.use("Agg")
    found = blocks((ROOT / page).read_text(encoding="utf-8"))
    assert found
    names: dict[str, object] = {"__name__": "__main__"}
    if not page.startswith("docs/"):
        names |= training_script()
    skipped = []
    for block in found:
        if absent := missing(block.code):
            skipped.append(f"line {block.line}: no {', '.join(absent)}")
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Blank lines in front, so that tracebacks name lines of the page.
            code = "\n" * block.line + block.code
            exec(compile(code, str(ROOT / page), "exec"), names)
        if block.output is None:
            assert printed.getvalue() == "", f"{page}:{block.line} prints what the page leaves out"
        else:
            shown = pattern(block.output)
            place = f"{page}:{block.line} shows\n{block.output}"
            assert re.fullmatch(shown, printed.getvalue()), f"{place}\n\n{printed.getvalue()}"
    if len(skipped) == len(found):
        pytest.skip("; ".join(skipped))


def test_blocks_are_paired_with_their_outputs():
    shown = "```python\na\n```\n\n```text\n1\n...\n3\n```\n"
    first, second = blocks(shown + "\nWords.\n\n```python\nb\n```\nWords\n```text\nc\n```\n")
    assert (first.code, first.output) == ("a\n", "1\n...\n3\n")
    assert (second.code, second.output) == ("b\n", None)
    assert re.fullmatch(pattern(first.output), "1\n2\n2\n3\n")
    assert not re.fullmatch(pattern(first.output), "1\n2\n")
