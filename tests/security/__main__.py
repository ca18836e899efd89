"""`python -m tests.security`: print what was tried and how it was refused; 1 when something was not."""

from __future__ import annotations

import asyncio
import sys

from tests.security.run import run_all

WIDTH = 60


def main() -> int:
    results = asyncio.run(run_all())
    rows = [("tried", "refused", "outside the sandbox")]
    rows += [(each.probe.tried, _short(each.inside) if each.is_refused else f"!! {each.inside}", each.outside) for each in results]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for number, row in enumerate(rows):
        print(" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())  # noqa: T201
        if number == 0:
            print("-+-".join("-" * width for width in widths))  # noqa: T201
    bad = [each for each in results if not each.is_good]
    print(f"\n{len(results) - len(bad)} of {len(results)} refused" + (f", {len(bad)} not refused or not shown" if bad else "."))  # noqa: T201
    return 1 if bad else 0


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
