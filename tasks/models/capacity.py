from __future__ import annotations

from django.db import models


class CreationBucket(models.Model):
    """How many sandboxes of a backend may be made just now: one row a backend, taken in the scheduler's transaction.

    `tokens` were there at `filled_at`, and grow from then on at the backend's rate. Until `closed_until` there are none,
    because of `reason`, a sentence; `refusals` counts how often that happened since one was last made. When runs wait for
    one, the next dispatch is due at `wake_at`. Until `no_headers_until` its backend is not asked to add headers on the way out.
    """

    backend = models.CharField(max_length=20, primary_key=True)
    tokens = models.FloatField(default=0)
    filled_at = models.DateTimeField()
    closed_until = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True)
    refusals = models.PositiveSmallIntegerField(default=0)
    wake_at = models.DateTimeField(null=True, blank=True)
    no_headers_until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"creations on {self.backend}"
