"""Starts the supervisor: hidden from all other processes before anything else."""

from __future__ import annotations

import os
import sys

from . import kernel


def main() -> None:
    if sys.argv[1:2] == ["relay"]:
        from .relay import run

        run()
        return
    kernel.hide()
    from .journal import JournalHeldError
    from .supervisor import main as supervise

    try:
        supervise(sys.argv[1:])
    except (JournalHeldError, OSError, ValueError) as error:
        raise SystemExit(f"The supervisor cannot start: {error}") from error
    os._exit(0)  # at once: there is nothing to tidy up, and a PID 1 takes all the rest along


if __name__ == "__main__":
    main()
