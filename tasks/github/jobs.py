"""The jobs of this room, by the names under which they are enqueued ("github.NAME"); short, and done twice they do no harm."""

from __future__ import annotations

from tasks.github import following, people, polling, replies, requests, reviewing, webhooks

__all__ = [
    "answer_requests",
    "begin_late_requests",
    "begin_request",
    "check_everybody",
    "enqueue_deliveries_again",
    "forget_deliveries",
    "look_at_pull_requests",
    "settle_reviews",
    "update_pull_request",
    "update_pull_requests",
    "work_on_delivery",
]


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


def update_pull_request(run_id: int) -> None:
    following.update(run_id)


def update_pull_requests() -> None:
    following.update_all()


def settle_reviews() -> None:
    reviewing.settle_all()


def begin_request(request_id: int) -> None:
    requests.begin(request_id)


def begin_late_requests() -> None:
    requests.begin_late()


def answer_requests() -> None:
    replies.tell_all()
