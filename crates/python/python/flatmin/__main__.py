"""The command ``flatmin``, which comes with the package: ``python -m flatmin --help``."""

import signal
import sys

from ._native import command


def main() -> None:
    """Runs the command with the arguments of the process, and ends the process."""
    # The command has its own answer to Ctrl-C, and no Python code runs beside it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(command(["flatmin", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
