"""Pictures of an analysis, with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._analysis import Analysis

#: Bounds that are drawn, with their labels and line styles.
_BOUNDS = {
    "S2": ("trace bound (S2)", "--"),
    "S3_sharp": ("Frobenius bound (S3)", ":"),
    "S6": ("spectral bound (S6)", "-."),
    "S7": ("sufficient (S7)", (0, (1, 3))),
    "S1": ("gradient descent, 2/λ_max (S1)", (0, (6, 2))),
}


def new_axes() -> Any:
    """Axes in a figure of their own."""
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(7.0, 4.5), layout="constrained")
    return ax


def plot_analysis(analysis: Analysis, ax: Any = None) -> Any:
    """Draws thresholds and bounds against batch size, and the learning rates as lines."""
    ax = new_axes() if ax is None else ax
    curve = analysis.curve()
    sizes = [batch["batch_size"] for batch in curve]
    for color, (name, (label, style)) in enumerate(_BOUNDS.items(), start=1):
        rates = [float((batch["bounds"] or {}).get(name, "nan")) for batch in curve]
        if all(rate != rate for rate in rates):
            continue
        ax.plot(sizes, rates, linestyle=style, color=f"C{color}", linewidth=1.2, label=label)
    low, high, middle = (
        [float(batch["threshold"][end]) for batch in curve]
        for end in ("lower", "upper", "estimate")
    )
    kinds = {batch["threshold"]["kind"] for batch in curve}
    label = "estimated edge η*" if "estimate" in kinds else "threshold η*"
    ax.plot(sizes, middle, color="C0", linewidth=2.2, marker="o", markersize=4, label=label)
    ax.fill_between(sizes, low, high, color="C0", alpha=0.2, linewidth=0)
    rates = sorted({verdict.learning_rate for verdict in analysis.verdicts})
    for index, rate in enumerate(rates):
        label = "your learning rate" if index == 0 else None
        ax.axhline(rate, color="0.3", linewidth=1, label=label)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("batch size B")
    ax.set_ylabel("learning rate η")
    ax.set_title("Largest learning rate at which this minimum is stable", fontsize=11)
    ax.legend(fontsize=8)
    return ax
