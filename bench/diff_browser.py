"""What the page of a change costs a browser: `bench diff`'s change, made by a run, in Chromium on a window of 1280 × 800.

- paint_ms: from the start of the navigation until the whole first screen is painted: lines of code reach down to the lower edge of the
  window. The page is the product's own, from its own server, to somebody who is signed in; the browser has nothing of it. The median
  of several; the server has shown the page before.
- paint_cold_ms: the same the very first time, when the server has worked out nothing.
- diff2html_paint_ms: the same of a page on which diff2html shows the same patch (bench/diff2html.py). Either is given the whole change;
  diff2html lays all of it out, we what is seen, and what comes then is in the next figure.
- times_faster: diff2html_paint_ms / paint_ms.
- longest_task_ms: the longest time for which the page did not answer while a wheel went from the top to the very end, a screen at a
  time as fast as the page follows, until every file had come, as the browser tells of long tasks (0: none of 50 ms). The worst of several.
- scroll_mb, scroll_rows: what came over the network for all of that, and how many rows of code the page had at the end.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Any

from bench import chromium, diff2html
from bench.diff_sample import FILES, texts, write
from bench.product import Product, started

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

TRIES = 7
SLOW_TRIES = 3  # of what takes long
WAIT_MS = 300_000
WINDOW = {"width": 1280, "height": 800}
STEP = 700  # px that the wheel turns at a time
PAUSE_MS = 20
GOALS: dict[str, list[Any]] = {"paint_ms": ["<=", 1000], "times_faster": [">=", 6], "longest_task_ms": ["<=", 200]}

# When code reaches the lower edge of the window, in ms of the page's clock, after the frame that shows it is made.
_PAINTED = """
window.painted = new Promise((resolve) => {
  const look = () => {
    const seen = document.elementFromPoint(innerWidth * 0.6, innerHeight - 30)?.closest("table td");
    if (!seen) return requestAnimationFrame(look);
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { resolve(performance.now()); };
    port2.postMessage(null);
  };
  requestAnimationFrame(look);
});
"""
_TASKS = """
window.tasks = [];
new PerformanceObserver((list) => {
  for (const { startTime, duration } of list.getEntries()) window.tasks.push([startTime, duration]);
}).observe({ type: "longtask", buffered: true });
"""
_LEFT = "scrollY + innerHeight < document.documentElement.scrollHeight - 2 || document.querySelector('a.load[data-soon]') !== null"
_BYTES = "performance.getEntries().reduce((sum, entry) => sum + (entry.transferSize ?? 0), 0)"


def measured() -> dict[str, float]:
    with started() as product, chromium.started() as browser:
        run = _made(product)
        address = f"{product.url}/runs/{run}/changes/"
        patch = bytes(product.query("SELECT content FROM tasks_patch WHERE run_id = %s AND kind = 'final'", run)[0][0])
        cold, *times = (_painted(browser, address, product) for _ in range(1 + TRIES))
        with diff2html.served(product.data.parent / "diff2html", patch) as theirs_at:
            theirs = statistics.median(_painted(browser, theirs_at) for _ in range(SLOW_TRIES))
        scrolled = [_scrolled(browser, address, product) for _ in range(SLOW_TRIES)]
    paint = statistics.median(times)
    return {
        "paint_ms": paint,
        "paint_cold_ms": cold,
        "diff2html_paint_ms": theirs,
        "times_faster": theirs / paint,
        "longest_task_ms": max(longest for longest, _, _ in scrolled),
        "scroll_mb": scrolled[-1][1] / 1e6,
        "scroll_rows": scrolled[-1][2],
    }


def _made(product: Product) -> int:
    """A run that changed the files as the sample says: they lie in the repository as they will be, and the agent copies them."""
    source = product.data.parent / "repo"
    old, new = texts()
    write(source, old)
    write(source / "after", new)
    git = ["git", "-C", str(source), "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(source)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "base"], check=True)
    product.manage("submit", "--repo", str(source), "--agent", "shell", "--prompt", "cp after/src/* src/", "--wait")
    [(run, files)] = product.query("SELECT run_id, jsonb_array_length(files) FROM tasks_patch WHERE kind = 'final'")
    assert files == FILES
    return int(run)


def _page(context: BrowserContext, product: Product | None) -> Page:
    if product is not None:
        context.add_cookies([{"name": each.name, "value": each.value or "", "url": product.url} for each in product.page.cookies.jar])
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    return page


def _painted(browser: Browser, address: str, product: Product | None = None) -> float:
    """Milliseconds; a page of `product` is opened as its user."""
    with browser.new_context(viewport=WINDOW) as context:  # type: ignore[arg-type]
        page = _page(context, product)
        page.add_init_script(_PAINTED)
        page.goto(address, wait_until="commit")
        return float(page.evaluate("window.painted"))


def _scrolled(browser: Browser, address: str, product: Product) -> tuple[float, float, int]:
    """The longest task in ms, the bytes that came, and the rows at the end."""
    with browser.new_context(viewport=WINDOW) as context:  # type: ignore[arg-type]
        page = _page(context, product)
        page.add_init_script(_TASKS)
        page.goto(address, wait_until="load")
        began = float(page.evaluate("performance.now()"))
        page.mouse.move(WINDOW["width"] * 0.6, WINDOW["height"] / 2)
        deadline = time.monotonic() + WAIT_MS / 1000
        while page.evaluate(_LEFT):
            assert time.monotonic() < deadline, "The end of the page was not reached."
            for _ in range(5):
                page.mouse.wheel(0, STEP)
                page.wait_for_timeout(PAUSE_MS)
        page.wait_for_timeout(1000)  # what was put off until nobody waits
        assert page.locator(".lines-of[data-loaded]").count() == FILES
        longest = max((length for at, length in page.evaluate("window.tasks") if at >= began), default=0)
        return float(longest), float(page.evaluate(_BYTES)), page.locator(".diff tr").count()
