"""A test user of a real product: from the command to a finished run, and to nothing."""

from __future__ import annotations

import json

import httpx

from tests.spine.product import Product, wait_for


def test_a_test_user_has_work_done_and_is_gone(product: Product) -> None:
    made = json.loads(product.manage("create_test_user", "--ttl", "10m", "--json").stdout)
    user_id = product.rows("SELECT id FROM tasks_user WHERE username = %s", made["username"])[0]["id"]
    world = product.data / "test-users" / str(user_id)
    headers = {"Authorization": f"Bearer {made['token']}"}
    with httpx.Client(base_url=f"{product.url.rstrip('/')}/api/v1", headers=headers, timeout=60, trust_env=False) as api:
        repo = next(repo["id"] for repo in made["repos"] if repo["name"] == "greeting")
        prompt = "python3 -m unittest 2>&1 && echo hello > hello.txt"
        answer = api.post("/tasks", json={"repo": repo, "prompt": prompt, "agents": [{"agent": "shell"}]})
        assert answer.status_code == 201, answer.text
        run = api.get("/runs").json()["items"][0]["id"]
        assert product.ended(run)["status"] == "succeeded", product.text(run)
        assert "OK" in product.text(run)
        assert "+hello" in api.get(f"/runs/{run}/patch").text
        mirrors = [product.data / "mirrors" / f"{repo['id']}.git" for repo in made["repos"]]
        assert world.is_dir()

        product.do("UPDATE tasks_user SET expires_at = now() WHERE id = %s", user_id)
        assert api.get("/runs").status_code == 401

    def is_gone() -> bool:
        product.enqueue("reconcile_all")  # which comes every 15 s otherwise
        return not product.rows("SELECT 1 FROM tasks_user WHERE id = %s", user_id)

    wait_for(is_gone, "the end of the user", 90, 1.0)
    assert not product.rows("SELECT 1 FROM tasks_run WHERE id = %s", run)
    assert not product.sandboxes(run)
    assert not any(folder.exists() for folder in [world, *mirrors])
