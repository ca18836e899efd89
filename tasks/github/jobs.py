"""The jobs of this room, by the names under which they are enqueued ("github.NAME"); short, and done twice they do no harm."""

from __future__ import annotations

from tasks.github import people, polling, webhooks

__all__ = ["check_everybody", "enqueue_deliveries_again", "forget_deliveries", "look_at_pull_requests", "work_on_delivery"]


def work_on_delivery(delivery_id: int) -> None:
    webhooks.work_on(delivery_id)


def enqueue_deliveries_again() -> None:
    webhooks.enqueue_again()


def forget_deliveries() -> None:
    webhooks.forget_old()


def check_everybody() -> None:
    people.check_everybody()


def look_at_pull_requests() -> None:
    polling.look()
