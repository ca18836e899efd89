"""How many runs there may be; how much may be spent on models is a Budget."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q


class QuotaScope(models.TextChoices):
    USER = "user", "Each person"
    GROUP = "group", "A group, together"
    SITE = "site", "Everybody, together"


class Quota(models.Model):
    """How many runs may be at work at once, and be begun in a day of UTC. What is empty is not limited by this one.

    One for a `user` counts for that person instead of the one for each person, and that instead of MAX_ACTIVE_RUNS_PER_USER; where it
    leaves something empty, the other holds. Nothing goes beyond MAX_ACTIVE_RUNS. Follow-ups are no new runs, and what we run by
    ourselves (checks of patches, trials of an environment) counts for no day.
    """

    scope = models.CharField(max_length=10, choices=QuotaScope)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="quotas")
    group = models.ForeignKey(Group, models.CASCADE, null=True, blank=True, related_name="quotas")
    at_once = models.PositiveIntegerField(null=True, blank=True)
    a_day = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["scope", "user", "group"]
        constraints = [
            models.UniqueConstraint(fields=["scope"], condition=Q(user=None, group=None), name="quota_once_per_scope"),
            models.UniqueConstraint(fields=["user"], condition=~Q(user=None), name="quota_once_per_user"),
            models.UniqueConstraint(fields=["group"], condition=~Q(group=None), name="quota_once_per_group"),
            models.CheckConstraint(condition=Q(scope__in=QuotaScope.values), name="quota_scope_known"),
            models.CheckConstraint(condition=Q(user=None) | Q(scope=QuotaScope.USER), name="quota_user_for_scope_user"),
            models.CheckConstraint(
                condition=Q(scope=QuotaScope.GROUP, group__isnull=False) | (~Q(scope=QuotaScope.GROUP) & Q(group=None)),
                name="quota_group_for_scope_group",
            ),
        ]

    def __str__(self) -> str:
        return str(self.user or self.group or self.get_scope_display())
