"""One line on standard error while long work lasts, if that is a terminal."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts steps of equal work; silent for the first two seconds and where nobody looks on."""

    def __init__(self, what: str, total: int, *, quiet: bool = False) -> None:
        self.what, self.total, self.done = what, total, 0
        self.quiet = quiet
        self.started = self.shown = time.monotonic()
        self.visible = False

    def step(self) -> None:
        """One more step is done."""
        self.done += 1
        now = time.monotonic()
        if (
            self.quiet
            or now - self.started < 2
            or now - self.shown < 0.5
            or not sys.stderr.isatty()
        ):
            return
        self.shown, self.visible = now, True
        left = (now - self.started) / self.done * (self.total - self.done)
        text = f"flatmin: {self.what}, {self.done} of {self.total}, about {left:.0f} s left"
        sys.stderr.write(f"\r{text:<79}")
        sys.stderr.flush()

    def close(self) -> None:
        """Takes the line away."""
        if self.visible:
            sys.stderr.write(f"\r{'':<79}\r")
            sys.stderr.flush()
