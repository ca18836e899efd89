"""From a prompt to a pull request, with the product as users run it and a GitHub on loopback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.github.server import github_server
from tests.spine.product import BRISK, GIT, Product

ALL = "find . -path ./.git -prune -o \\( -type f -o -type l \\)"
LIST = f"{ALL} \\( -perm -100 -printf 'x %p ' -o -printf '- %p ' \\) -exec sha256sum {{}} \\; | sort"
SCRIPT = f"""
set -e
echo changed >> README.md
rm old.txt
mkdir -p a/b
printf 'binary\\0\\1\\377' > a/b/data.bin
echo '#!/bin/sh' > tool.sh
chmod +x tool.sh
ln -s README.md link
printf 'no newline' > 'with space ä.txt'
git config core.autocrlf true
git commit -q --allow-empty -m 'of the agent, of no matter'
{LIST}
"""


def listing(text: str) -> list[str]:
    return sorted(line for line in text.splitlines() if " ./" in line)


def test_the_pushed_branch_has_exactly_the_tree_of_the_workspace(make_product: Callable[..., Product], tmp_path: Path) -> None:
    with github_server() as github:
        github.add_user("alice", "token-of-alice")
        github.add_repo("alice/shop", {"README.md": "# Shop\r\n", "old.txt": "old\n", ".gitattributes": "*.txt text\n"})
        product = make_product(**BRISK, GITHUB_URL=github.url, GITHUB_TOKEN="token-of-alice")
        product.environment["ALLOW_PRIVATE_HOSTS"] += f",{github.url.removeprefix('http://')}"
        product.start()
        (run,) = product.submit(SCRIPT, repo=f"{github.url}/alice/shop")
        assert product.ended(run)["status"] == "succeeded", product.text(run)

        told = json.loads(product.manage("open-pr", str(run), "--draft", "--json").stdout)
        again = json.loads(product.manage("open-pr", str(run), "--json").stdout)

        assert told == again
        branch = product.run(run)["branch"]
        assert told == {"number": 1, "url": f"{github.url}/alice/shop/pull/1", "branch": branch, "state": "draft"}
        assert set(github.branches("alice/shop")) == {"main", branch}
        assert [pull["head"]["ref"] for pull in github.pulls("alice/shop")] == [branch]
        clone = tmp_path / "clone"
        subprocess.run([*GIT, "clone", "-q", "--branch", branch, f"{github.url}/alice/shop", str(clone)], check=True)
        found = subprocess.run(["bash", "-c", LIST], cwd=clone, capture_output=True, text=True, check=True).stdout
        assert listing(found) == listing(product.text(run))
        assert len(listing(found)) == 6
        assert "token-of-alice" not in product.tail(100_000)
