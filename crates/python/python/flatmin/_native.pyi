"""The extension module, which is written in Rust."""

from collections.abc import Sequence

__version__: str

class InputError(ValueError):
    """An array or an option was refused. The message is that of ``flatmin analyze``."""

class Answer:
    """The answer to a question, with its forms."""

    def text(self) -> str: ...
    def json(self) -> str: ...
    def curve(self) -> str: ...
    def svg(self) -> str: ...

Buffer = tuple[str, str, tuple[int, ...], bool, memoryview, int]

def analyze(
    main: str,
    arrays: Sequence[Buffer],
    options: Sequence[str],
    blocks: str | None = None,
    parameters: int | None = None,
    preconditioned: bool = False,
    threads: int | None = None,
) -> Answer: ...
def command(words: Sequence[str]) -> int: ...
