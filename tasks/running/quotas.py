"""How many runs somebody may have at work, and begin in a day: what the rows of Quota and the settings' caps come to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone

from tasks.errors import AppError
from tasks.models import ACTIVE, Quota, QuotaScope, Run, Turn, User

# In SQL, how many runs of the owner of a task `t` may be active: their own quota's, else each person's, else the setting's.
CAP = (
    "coalesce((SELECT at_once FROM tasks_quota WHERE user_id = t.owner_id),"
    " (SELECT at_once FROM tasks_quota WHERE scope = 'user' AND user_id IS NULL), %(per_user)s)"
)

# In SQL, how many runs may be active in all, and whether a user `owner_id` shares a group's quota.
SITE_MOST = "least(%(all)s, (SELECT at_once FROM tasks_quota WHERE scope = 'site'))"
IS_GROUPED = (
    "EXISTS (SELECT FROM tasks_quota q JOIN tasks_user_groups g ON g.group_id = q.group_id"
    " WHERE g.user_id = owner_id AND q.at_once IS NOT NULL)"
)


class QuotaUsedUp(AppError):
    """So many runs may not be begun today; the message says of whose quota that is."""

    code = "quota_used_up"


@dataclass(frozen=True)
class Day:
    """Of a quota for a day: whose it is ("You", "The group Web", "All together"), and how many of them were begun today."""

    whose: str
    most: int
    begun: int

    @property
    def left(self) -> int:
        return max(0, self.most - self.begun)


@dataclass
class Share:
    """How many more runs of a group may be active just now; `members` are users' ids."""

    name: str
    members: frozenset[int]
    left: int


def site_most() -> int:
    """How many runs may be active in all."""
    return most_of_site(Quota.objects.filter(scope=QuotaScope.SITE))


def most_of_site(rows: Iterable[Quota]) -> int:
    """The same, from rows that are there already."""
    given = [row.at_once for row in rows if row.scope == QuotaScope.SITE and row.at_once is not None]
    return min([settings.MAX_ACTIVE_RUNS, *given])


def shares(owners: Collection[int]) -> list[Share]:
    """Of the groups with a quota that some of these users are in; one query where there is none."""
    found = []
    limited = Quota.objects.filter(scope=QuotaScope.GROUP, at_once__isnull=False, group__user__in=owners).select_related("group").distinct()
    for quota in limited:
        members = frozenset(User.objects.filter(groups=quota.group_id).values_list("pk", flat=True))
        active = Run.objects.filter(status__in=ACTIVE, task__owner__in=members).count()
        found.append(Share(str(quota.group), members, (quota.at_once or 0) - active))
    return found


def of(user: User) -> list[Quota]:
    """The rows that count for a user; one query. Of a person's own and that for each, both."""
    mine = Q(user=user) | Q(scope=QuotaScope.USER, user=None) | Q(scope=QuotaScope.SITE) | Q(group__user=user)
    return list(Quota.objects.filter(mine).select_related("group").order_by("pk").distinct())


def at_once(rows: Sequence[Quota]) -> int:
    """How many runs of the user whose rows these are may be active, groups aside."""
    per_user = [row.at_once for row in _personal(rows) if row.at_once is not None]
    return min(most_of_site(rows), per_user[0] if per_user else settings.MAX_ACTIVE_RUNS_PER_USER)


def days(user: User, rows: Sequence[Quota]) -> tuple[Day, ...]:
    """What is used of each quota for a day that counts for this user; no query where there is none."""
    personal = [row for row in _personal(rows) if row.a_day is not None][:1]
    limited = [*personal, *(row for row in rows if row.scope != QuotaScope.USER and row.a_day is not None)]
    if not limited:
        return ()
    counts = {f"q{row.pk}": Count("pk", filter=_whose(row, user)) for row in limited}
    begun = Turn.objects.filter(number=1, created_at__gte=_midnight(), run__task__is_trial=False).aggregate(**counts)
    return tuple(Day(_name(row), row.a_day or 0, begun[f"q{row.pk}"]) for row in limited)


def check_day(*, owner: User, runs: int) -> None:
    """Whether this user may begin so many runs more today; else QuotaUsedUp. Within the transaction that makes them: until its end
    others whom the same quotas count for wait here."""
    pks = [row.pk for row in of(owner) if row.a_day is not None]
    list(Quota.objects.filter(pk__in=pks).order_by("pk").select_for_update(no_key=True))
    for day in days(owner, of(owner)) if pks else []:
        if runs > day.left:
            have = "have" if day.whose == "You" else "has"
            raise QuotaUsedUp(
                f"{day.whose} may begin {day.most} run{'' if day.most == 1 else 's'} a day, and {have} begun {day.begun} today; "
                f"{'this is one more' if runs == 1 else f'these are {runs} more'}. "
                "The next day begins at midnight UTC; an operator can raise it."
            )


def _personal(rows: Sequence[Quota]) -> list[Quota]:
    """The person's own first, then that for each person."""
    return sorted((row for row in rows if row.scope == QuotaScope.USER), key=lambda row: row.user_id is None)


def _whose(row: Quota, user: User) -> Q:
    if row.scope == QuotaScope.USER:
        return Q(run__task__owner=user)
    if row.scope == QuotaScope.GROUP:
        return Q(run__task__owner__in=User.objects.filter(groups=row.group_id).values("pk"))
    return Q()


def _name(row: Quota) -> str:
    names: Mapping[str, str] = {QuotaScope.USER: "You", QuotaScope.GROUP: f"The group {row.group}", QuotaScope.SITE: "Everybody together"}
    return names[row.scope]


def _midnight() -> datetime:
    return timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
