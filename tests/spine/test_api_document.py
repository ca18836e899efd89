"""The examples of docs/api.md, as they stand there, against a real product."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.spine.product import Product

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "api.md"
MAKE_TOKEN = (
    "from tasks.models import User; from tasks.tokens import create_token;"
    "print(create_token(user=User.objects.get(is_staff=True), name='document', scope='write', expires_in_days=7)[1])"
)


def test_the_examples_work_as_they_stand(product: Product, tmp_path: Path) -> None:
    token = product.manage("shell", "-v", "0", "-c", MAKE_TOKEN).stdout.split()[-1]
    script = "set -euo pipefail\n" + "\n".join(re.findall(r"^```bash\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL))
    environment = {"PATH": "/usr/bin:/bin", "ASYNCCODE_URL": product.url.rstrip("/"), "TOKEN": token, "SOURCE": str(product.repo)}
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "event: end" in done.stdout
    assert "succeeded\n" in done.stdout
    assert "+hello\n" in (tmp_path / "hello.patch").read_text()
    assert (tmp_path / "copy.txt").read_text() == "some notes\n"
