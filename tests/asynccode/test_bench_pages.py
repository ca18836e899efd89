"""The bench of pages, in a world that is quickly made."""

from __future__ import annotations

from bench import pages


def test_every_page_is_visited_and_few_ask_much() -> None:
    report = pages.run(tasks=60, tries=1)
    visited = [key.removesuffix("_queries") for key in report.figures if key.endswith("_queries") and key != "worst_queries"]
    assert {"home", "home_found", "run_long", "compare", "changes", "admin_runs", "news"} <= set(visited)
    assert all(report.figures[f"{name}_ms"] > 0 and report.figures[f"{name}_ms_small"] > 0 for name in visited)
    assert (report.figures["tasks"] >= 60, report.figures["events"] > 12_000) == (True, True)
