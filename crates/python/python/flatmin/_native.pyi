"""The extension module, which is written in Rust."""

from collections.abc import Callable, Sequence

__version__: str

class InputError(ValueError):
    """An array or an option was refused. The message is that of ``flatmin analyze``."""

class Answer:
    """The answer to a question, with its forms."""

    def text(self) -> str: ...
    def json(self) -> str: ...
    def curve(self) -> str: ...
    def svg(self) -> str: ...

#: n, k, p, and functions of bytes for J V, Jᵀ U and the J_iJ_iᵀ.
Functions = tuple[
    int,
    int,
    int,
    Callable[[bytes, int], bytes],
    Callable[[bytes, int], bytes],
    Callable[[], bytes],
]
Buffer = tuple[str, str, tuple[int, ...], bool, memoryview, int]

def analyze(
    main: str,
    arrays: Sequence[Buffer],
    options: Sequence[str],
    blocks: str | None = None,
    parameters: int | None = None,
    preconditioned: bool = False,
    threads: int | None = None,
    products: Functions | None = None,
) -> Answer: ...
def command(words: Sequence[str]) -> int: ...
