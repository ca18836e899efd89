"""What a run leaves in artifacts/ is kept beside its patch: that is there whatever became of the turn, and it is not in the patch."""

from __future__ import annotations

from tests.spine.product import BRISK, Product

ENVIRONMENT = {**BRISK, "MAX_ARTIFACT_MB": "1"}

SCRIPT = """
mkdir -p "$ASYNCCODE_ARTIFACTS/deep"
echo '<h1>Report</h1>' > artifacts/report.html
head -c 2000000 /dev/zero > artifacts/deep/film.mp4
ln -s /etc/passwd artifacts/link
mkfifo artifacts/pipe
echo done > result.txt
"""


def kept(product: Product, run: int) -> dict[str, tuple[bytes, str, int]]:
    statement = (
        "SELECT a.path, a.content, a.left_out, t.number FROM tasks_artifact a JOIN tasks_turn t ON t.id = turn_id WHERE a.run_id = %s"
    )
    return {row["path"]: (bytes(row["content"]), row["left_out"], row["number"]) for row in product.rows(statement, run)}


def test_they_are_kept_beside_the_patch_turn_after_turn(product: Product) -> None:
    (run,) = product.submit(SCRIPT)
    assert product.ended(run)["status"] == "succeeded", product.text(run, "stderr")
    assert kept(product, run) == {"report.html": (b"<h1>Report</h1>\n", "", 1), "deep/film.mp4": (b"", "size", 1)}
    assert product.files(run) == {"result.txt": "done\n"}
    product.manage(
        "follow-up", str(run), "--prompt", "rm artifacts/deep/film.mp4; echo 2 > artifacts/second; exit 1", "--wait", check=False
    )
    assert product.run(run)["status"] == "failed"
    assert kept(product, run) == {"report.html": (b"<h1>Report</h1>\n", "", 1), "second": (b"2\n", "", 2)}
    product.is_clean()
