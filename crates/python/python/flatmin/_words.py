"""Messages of the command in the words of Python: its options as keywords.

The command and the package share their messages. Where these name an option, Python has a keyword,
and this module alone knows how the one becomes the other.
"""

from __future__ import annotations

import re

#: Options without a value, and what stands for them.
_SWITCHES = {
    "gram": "gram=…",
    "sum-arrays": "jacobian={…}",
    "trust-input": "trust_input=True",
    "drop-last": "drop_last=True",
    "nesterov": "nesterov=True",
    "almost-sure": "almost_sure=True",
}

#: Options with the values that may follow them in a message.
_NUMBER = r"\d[\d./e+-]*(?:…\d+)?|[nkB]\b"
_VALUES = {
    "axes": r"[nkp]+(?:,[nkp]+)*\b",
    "sampling": r"(?:with|without)-replacement|reshuffling|poisson",
    "loss": r"squared|cross-entropy|binary-cross-entropy|custom",
    "outputs": _NUMBER,
    "samples": _NUMBER,
    "batch-size": _NUMBER,
    "loss-scale": _NUMBER,
    "memory-limit": _NUMBER,
    "momentum": _NUMBER,
}

_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)(?: <[^>]*>)?")


def in_python(text: str) -> str:
    """The message with keywords in place of the options of the command.

    Examples
    --------
    >>> in_python("give --axes kn,p --outputs 3, or --trust-input")
    'give axes="kn,p", outputs=3, or trust_input=True'
    """
    found, end = [], 0
    last_option = -1
    for match in _OPTION.finditer(text):
        if match.start() < end:
            continue
        between = text[end : match.start()]
        # Options that follow each other are a list of keywords.
        found.append(", " if between == " " and last_option == end else between)
        word, end = _keyword(match[1], text, match.end())
        found.append(word)
        last_option = end
    return "".join(found) + text[end:]


def _keyword(option: str, text: str, end: int) -> tuple[str, int]:
    """The keyword for an option that ends at `end`, and the end of its value."""
    if option in _SWITCHES:
        return _SWITCHES[option], end
    name = option.replace("-", "_")
    value = re.compile(f" ({_VALUES[option]})").match(text, end) if option in _VALUES else None
    if value is None:
        return name, end
    word = value[1]
    # A sentence may end here.
    word = word.rstrip(".") if word[0].isdigit() else word
    end = value.start(1) + len(word)
    if option in {"axes", "sampling", "loss"}:
        word = f'"{word.replace("-", "_") if option == "sampling" else word}"'
    return f"{name}={word}", end
