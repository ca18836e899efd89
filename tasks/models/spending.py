"""What models cost, what was spent, and how much may be."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from tasks.models.run import Run, Turn


class Price(models.Model):
    """What a model costs, in USD for a million tokens; for models whose agent does not say so itself, and for the budgets.

    `model` is the name, or its beginning: of several that fit the longest counts.
    """

    model = models.CharField(max_length=120, unique=True)
    input_usd = models.DecimalField(max_digits=10, decimal_places=4)
    cached_usd = models.DecimalField(max_digits=10, decimal_places=4)  # input read from the provider's cache
    cache_write_usd = models.DecimalField(max_digits=10, decimal_places=4)
    output_usd = models.DecimalField(max_digits=10, decimal_places=4)

    class Meta:
        ordering = ["model"]

    def __str__(self) -> str:
        return self.model


class ModelCall(models.Model):
    """One request to a model API, as the broker saw it. Tokens of input include the cached and the written ones."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="model_calls", db_index=False)
    run = models.ForeignKey(Run, models.CASCADE, related_name="model_calls")
    turn = models.ForeignKey(Turn, models.CASCADE, related_name="model_calls")
    provider = models.CharField(max_length=20)
    model = models.CharField(max_length=120, blank=True)
    status = models.PositiveSmallIntegerField()  # of HTTP
    refused = models.CharField(max_length=20, blank=True)  # an ErrorClass: what the provider's error says
    is_whole = models.BooleanField(default=True)  # false: the answer was cut, so there may have been more
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)  # null: the model has no price
    seconds = models.FloatField(default=0)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["at"], include=["cost_usd"], name="model_call_month"),
            models.Index(fields=["user", "at"], include=["cost_usd"], name="model_call_user_month"),
        ]

    def __str__(self) -> str:
        return f"{self.model} for run {self.run_id}"


class BudgetScope(models.TextChoices):
    RUN = "run", "Each run"
    USER = "user", "Each person, a month"
    SITE = "site", "Everybody, a month"


class Budget(models.Model):
    """How much may be spent on models, in USD. One for a `user` counts for that person instead of the one for each person.

    Months are those of UTC. A turn whose budget is used up is ended; a call under way is let through, so a budget can be
    exceeded by the calls that were under way when it ran out.
    """

    scope = models.CharField(max_length=10, choices=BudgetScope)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="budgets")
    usd = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        ordering = ["scope", "user"]
        constraints = [
            models.UniqueConstraint(fields=["scope"], condition=Q(user=None), name="budget_once_per_scope"),
            models.UniqueConstraint(fields=["user"], condition=~Q(user=None), name="budget_once_per_user"),
            models.CheckConstraint(condition=Q(scope__in=BudgetScope.values), name="budget_scope_known"),
            models.CheckConstraint(condition=Q(user=None) | Q(scope=BudgetScope.USER), name="budget_user_for_scope_user"),
            models.CheckConstraint(condition=Q(usd__gte=0), name="budget_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.get_scope_display()}: ${self.usd}"
