"""The answer about a minimum."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ._native import InputError
from ._words import in_python

if TYPE_CHECKING:
    from ._native import Answer

#: Rows up to which a notebook shows the figure: it takes about ten thresholds.
_SHOWN_ROWS = 300


class Threshold(NamedTuple):
    """The largest stable learning rate, as an interval.

    Attributes
    ----------
    lower, upper
        Ends of the interval; the optimizer is stable below, unstable above.
    estimate
        A number in it.
    kind
        ``"certified"`` if the interval is proved to hold the edge for the numbers given,
        ``"exact"`` if the estimate is the edge up to rounding, which is estimated and not proved,
        ``"bracket"`` or ``"estimate"``.
    confidence
        Probability with which an estimated interval holds the edge; ``None`` otherwise.
    """

    lower: float
    upper: float
    estimate: float
    kind: str
    confidence: float | None


class Sharpness(NamedTuple):
    """Measures of G, the Gauss–Newton matrix of the loss, with its scale.

    A bracket leaves the Frobenius norm open: it is NaN. ``max_gradient_norm_squared`` is the
    largest ‖g_i‖² of a sample's gradient of the output, or the largest eigenvalue of J_iJ_iᵀ for
    several outputs.
    """

    trace: float
    frobenius_norm: float
    lambda_max: float
    max_gradient_norm_squared: float


class Verdict(NamedTuple):
    """The verdict on one learning rate: ``"stable"``, ``"unstable"`` or ``"undecided"``.

    ``margin`` is η*/η − 1, negative where the learning rate is unstable.
    """

    batch_size: int
    learning_rate: float
    verdict: str
    margin: float


class Doubt(NamedTuple):
    """What looks wrong about the input, in a word and in a sentence."""

    kind: str
    text: str


class Analysis:
    """The answer about a minimum. Its ``repr`` is the text of ``flatmin analyze``, with keywords in
    place of options.

    Attributes
    ----------
    samples, outputs, parameters, rank : int
        n, k, p (``None`` where only a Gram matrix is known), and the rank of G.
    sharpness : Sharpness
    reading : str
        What the array was read as, in one sentence.
    doubts : list of Doubt
        What looks wrong about the input; empty if nothing does.
    notes : list of str
        In which way the question differs from training, such as another sampling. They stand at the
        end of the text.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer: Answer | None = answer
        self.notes: list[str] = []

    @cached_property
    def _text(self) -> str:
        assert self._answer is not None
        return in_python(self._answer.text())

    @cached_property
    def _json(self) -> str:
        assert self._answer is not None
        return self._answer.json()

    @cached_property
    def _report(self) -> dict[str, Any]:
        return self.to_dict()

    def __repr__(self) -> str:
        return self._text + "".join(f"Note: {note}.\n" for note in self.notes)

    def __getstate__(self) -> dict[str, Any]:
        return {"text": self._text, "json": self._json, "notes": self.notes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._answer, self._text, self._json = None, state["text"], state["json"]
        self.notes = state["notes"]

    def to_dict(self) -> dict[str, Any]:
        """The answer as ``flatmin analyze --format json`` prints it (schema ``flatmin.analyze/1``).

        An infinite threshold is the text ``"inf"`` there, an absent value ``None``. Sentences have
        keywords in place of options.
        """
        import json

        report = json.loads(self._json)
        for doubt in report["doubts"]:
            doubt["text"] = in_python(doubt["text"])
        if report["reading"]:
            report["reading"] = in_python(report["reading"])
        return report

    @property
    def samples(self) -> int:
        """The number n of samples."""
        return self._report["samples"]

    @property
    def outputs(self) -> int:
        """The number k of outputs."""
        return self._report["outputs"]

    @property
    def parameters(self) -> int | None:
        """The number p of parameters, if it is known."""
        return self._report["parameters"]

    @property
    def rank(self) -> int | None:
        """The rank of G; ``None`` for a bracket, which does not find it."""
        return self._report["rank"]

    @property
    def batch_sizes(self) -> list[int]:
        """The batch sizes that were asked for, in that order."""
        return [batch["batch_size"] for batch in self._report["batches"]]

    @property
    def sharpness(self) -> Sharpness:
        """Trace, Frobenius norm and largest eigenvalue of G."""
        found = (self._report[name] for name in Sharpness._fields)
        return Sharpness(*(float("nan") if value is None else float(value) for value in found))

    @property
    def reading(self) -> str:
        """What the array was read as; empty where there is no array, but products."""
        return self._report["reading"] or ""

    @property
    def doubts(self) -> list[Doubt]:
        """What looks wrong about the input."""
        return [Doubt(doubt["kind"], doubt["text"]) for doubt in self._report["doubts"]]

    def threshold(self, batch_size: int | None = None) -> Threshold:
        """The largest stable learning rate for a batch size of the question.

        Parameters
        ----------
        batch_size
            May be left out if only one was asked for.

        Raises
        ------
        InputError
            If the batch size was not asked for.
        """
        found = self._batch(batch_size)["threshold"]
        ends = (float(found[name]) for name in ("lower", "upper", "estimate"))
        return Threshold(*ends, found["kind"], found["confidence"])

    @property
    def bounds(self) -> dict[str, float]:
        """The learning rates at which simple conditions turn, by the ids of their statements.

        They belong to the first batch size; :meth:`bounds_for` has the others. Empty for another
        optimizer than plain SGD.
        """
        return self.bounds_for(self.batch_sizes[0])

    def bounds_for(self, batch_size: int) -> dict[str, float]:
        """The bounds for one of the batch sizes."""
        bounds = self._batch(batch_size)["bounds"] or {}
        return {name: float(rate) for name, rate in bounds.items()}

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on the learning rates, for each batch size."""
        return [
            Verdict(
                batch["batch_size"],
                rate["learning_rate"],
                rate["verdict"],
                float(rate["margin"]),
            )
            for batch in self._report["batches"]
            for rate in batch["learning_rates"]
        ]

    def _batch(self, batch_size: int | None) -> dict[str, Any]:
        batches = self._report["batches"]
        if batch_size is None and len(batches) == 1:
            return batches[0]
        for batch in batches:
            if batch["batch_size"] == batch_size:
                return batch
        sizes = ", ".join(map(str, self.batch_sizes))
        raise InputError(f"batch_size is {batch_size}, expected one of the question's: {sizes}")

    @property
    def _is_bracket(self) -> bool:
        return any(batch["threshold"]["kind"] == "bracket" for batch in self._report["batches"])

    def curve(self) -> list[dict[str, Any]]:
        """The batches of the sizes 1, 2, 4, …, n and those of the question, as in :meth:`to_dict`.

        After pickling, and for a bracket, only those of the question.
        """
        import json

        if self._answer is None or self._is_bracket:
            return self._report["batches"]
        return json.loads(self._answer.curve())

    def plot(self, ax: Any = None) -> Any:
        """Draws thresholds and bounds against batch size, and the learning rates as lines.

        Parameters
        ----------
        ax
            Axes of matplotlib; new ones if left out.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from ._plot import plot_analysis

        return plot_analysis(self, ax)

    def _repr_html_(self) -> str:
        from html import escape

        text = f"<pre>{escape(repr(self))}</pre>"
        # A curve of reshuffled epochs may take minutes.
        is_quick = all(b["sampling"] != "reshuffling" for b in self._report["batches"])
        is_small = is_quick and self.samples * self.outputs <= _SHOWN_ROWS
        if self._answer is None or self._is_bracket or not is_small:
            return text
        figure = self._answer.svg()
        return f'{text}\n<div style="max-width:60em">{figure[figure.index("<svg") :]}</div>'
