"""What a backend that is not ours gives room for: sandboxes awake at one time, and new ones in a second. All of it is rows.

Both are taken in the scheduler's transaction, so they hold over all workers. Local sandboxes are not limited here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from sandboxes.errors import SandboxLimited
from tasks.models import ACTIVE, CreationBucket, Run, RunStatus, Sandbox, SandboxStatus

E2B = "e2b"

LOSSES, LOSSES_WITHIN = 3, timedelta(minutes=10)  # that open the breaker
REFUSED_S, MOST_REFUSED_S = 15.0, 300.0  # for which a refusal closes the bucket; doubles while none succeeds
MOST_ASKED_S = 3600.0  # that a backend may ask us to wait
NO_HEADERS_FOR = timedelta(hours=1)

# The bucket holds one token, so that creations keep their distance: no second sees more than the rate.
_FILL = """
INSERT INTO tasks_creationbucket AS b (backend, tokens, filled_at, reason, refusals)
VALUES (%(backend)s, 1, clock_timestamp(), '', 0)
ON CONFLICT (backend) DO UPDATE SET filled_at = clock_timestamp(),
    tokens = least(1, b.tokens + %(rate)s * greatest(0, extract(epoch FROM clock_timestamp() - b.filled_at)))
RETURNING tokens, CASE WHEN closed_until > clock_timestamp() THEN closed_until END
"""
_LEAVE = """
UPDATE tasks_creationbucket SET tokens = %(tokens)s,
    wake_at = CASE WHEN %(is_waited_for)s THEN greatest(%(closed_until)s, filled_at + make_interval(secs => %(next_s)s)) END
WHERE backend = %(backend)s
"""
_ALMOST = 1e-6


class Room:
    """What is left of a backend's room in one dispatch. Only within its transaction, and to the end: `leave` writes it down."""

    def __init__(self, backend: str = E2B) -> None:
        self.backend = backend
        self._awake = settings.E2B_MAX_SANDBOXES - awake(backend)
        with connection.cursor() as cursor:
            cursor.execute(_FILL, {"backend": backend, "rate": settings.E2B_CREATIONS_PER_S})
            self._tokens, closed_until = cursor.fetchone()
        self._closed_until = max(filter(None, [closed_until, broken_until(backend)]), default=None)
        self._is_waited_for = False

    def take(self, *, creates: bool) -> bool:
        """Room for one more sandbox awake, which is made first if it `creates`; False when there is none."""
        if self._awake < 1:
            return False  # going to sleep dispatches
        if creates and (self._closed_until or self._tokens < 1 - _ALMOST):
            self._is_waited_for = True
            return False
        self._awake -= 1
        self._tokens -= creates
        return True

    def leave(self) -> None:
        with connection.cursor() as cursor:
            params = {
                "backend": self.backend,
                "tokens": max(0.0, self._tokens),
                "is_waited_for": self._is_waited_for,
                "closed_until": self._closed_until,
                "next_s": (1 - max(0.0, self._tokens)) / settings.E2B_CREATIONS_PER_S,
            }
            cursor.execute(_LEAVE, params)


def awake(backend: str = E2B) -> int:
    """How many sandboxes of a backend are awake, or will be as soon as a start that is under way has come that far."""
    is_being_made = Q(status=SandboxStatus.STARTING, run__status__in=ACTIVE, run__generation=F("generation"))
    known = Sandbox.objects.filter(Q(status=SandboxStatus.LIVE) | is_being_made, backend=backend).count()
    own = Sandbox.objects.filter(
        run=OuterRef("pk"), generation=OuterRef("generation"), backend=backend, status__in=[SandboxStatus.STARTING, SandboxStatus.LIVE]
    )
    return known + Run.objects.filter(~Exists(own), backend=backend, status=RunStatus.STARTING).count()


# --- refusals -------------------------------------------------------------------------------------------------------------


def close(backend: str, refused: SandboxLimited) -> datetime:
    """Make no sandboxes of a backend for as long as it has asked for, else for longer and longer; gives until when."""
    with transaction.atomic():
        CreationBucket.objects.get_or_create(backend=backend, defaults={"filled_at": Now()})
        bucket = CreationBucket.objects.select_for_update().get(backend=backend)
        now = timezone.now()
        is_closed = bucket.closed_until is not None and bucket.closed_until > now  # others were refused at the same time
        bucket.refusals += not is_closed
        wait = min(REFUSED_S * 2 ** min(bucket.refusals - 1, 10), MOST_REFUSED_S)
        if refused.retry_after_s is not None:
            wait = min(max(refused.retry_after_s, 1.0), MOST_ASKED_S)
        until = now + timedelta(seconds=wait)
        if bucket.closed_until is None or until > bucket.closed_until:
            bucket.closed_until, bucket.reason = until, str(refused)
        bucket.wake_at = bucket.closed_until
        bucket.save(update_fields=["refusals", "closed_until", "reason", "wake_at"])
        return bucket.closed_until


def made(backend: str) -> None:
    """A sandbox was made: the next refusal is the first again."""
    CreationBucket.objects.filter(backend=backend, refusals__gt=0).update(refusals=0)


def open_now(backend: str) -> bool:
    """Let sandboxes be made again; False when nothing kept them from it."""
    closed = CreationBucket.objects.filter(backend=backend, closed_until__gt=Now())
    return bool(closed.update(closed_until=None, reason="", refusals=0, wake_at=Now()))


def refuse_headers(backend: str) -> None:
    """Do not ask a backend to add headers for a while: it has refused to, and would refuse the next sandbox's too."""
    until = Now() + NO_HEADERS_FOR
    CreationBucket.objects.update_or_create(
        backend=backend, defaults={"no_headers_until": until}, create_defaults={"filled_at": Now(), "no_headers_until": until}
    )


def adds_headers(backend: str) -> bool:
    """Whether a backend is asked to add headers, as far as is known."""
    return not CreationBucket.objects.filter(backend=backend, no_headers_until__gt=Now()).exists()


# --- losses ---------------------------------------------------------------------------------------------------------------


def lose(sandbox_id: int) -> bool:
    """Write down that a sandbox that was wanted is gone; False when it was given up already, or found gone before."""
    wanted = [SandboxStatus.STARTING, SandboxStatus.LIVE, SandboxStatus.PAUSED]
    return bool(Sandbox.objects.filter(pk=sandbox_id, status__in=wanted).update(status=SandboxStatus.LOST, lost_at=Now()))


def broken_until(backend: str = E2B) -> datetime | None:
    """Until when no new sandboxes are made because too many were lost; None when they are made."""
    recent = Sandbox.objects.filter(backend=backend, lost_at__gt=Now() - LOSSES_WITHIN).order_by("-lost_at")
    losses = list(recent.values_list("lost_at", flat=True)[:LOSSES])
    return losses[-1] + LOSSES_WITHIN if len(losses) == LOSSES and losses[-1] else None


def broken(until: datetime) -> str:
    return f"Three E2B sandboxes were lost within ten minutes. New ones wait until {clock(until)}."


# --- what is said of it ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shortage:
    """What a backend has no room for, in sentences; "" where it has. `refusal` is its own words, while they hold."""

    creation: str
    waking: str
    refusal: str = ""

    @classmethod
    def of(cls, backend: str = E2B) -> Shortage:
        most = settings.E2B_MAX_SANDBOXES
        full = f"E2B may have {most} sandbox{'' if most == 1 else 'es'} awake at once." if awake(backend) >= most else ""
        bucket = CreationBucket.objects.filter(backend=backend, closed_until__gt=Now()).first()
        refusal = bucket.reason if bucket else ""
        if until := broken_until(backend):
            return cls(broken(until), full, refusal)
        if bucket is not None and bucket.closed_until is not None:
            return cls(f"{refusal} New sandboxes wait until {clock(bucket.closed_until, seconds=True)}.".lstrip(), full, refusal)
        return cls(full, full)

    def of_need(self, needs: str) -> str:
        return {"create": self.creation, "wake": self.waking}.get(needs, "")


def pace(before: int) -> str:
    """What a run waits for that `before` others go before, while nothing else is short."""
    rate = settings.E2B_CREATIONS_PER_S
    rule = "E2B makes one sandbox a second here" if rate == 1 else f"E2B makes {rate} sandboxes a second here"
    return f"{rule}; yours is next." if before < 1 else f"{rule}; {before} {'goes' if before == 1 else 'go'} before yours."


def clock(at: datetime, *, seconds: bool = False) -> str:
    return f"{at:{'%H:%M:%S' if seconds else '%H:%M'}} UTC"
