"""The operator's view of the rows: to look, to do what the verbs do, and to choose. Runs are moved by verbs, never here."""

from django.contrib import admin

from tasks.admin import (
    accounts,
    agents,
    audit,
    capacity,
    checks,
    deliveries,
    environments,
    github_accounts,
    github_requests,
    operations,
    publications,
    quotas,
    runs,
    spending,
    work,
)

__all__ = [
    "accounts",
    "agents",
    "audit",
    "capacity",
    "checks",
    "deliveries",
    "environments",
    "github_accounts",
    "github_requests",
    "operations",
    "publications",
    "quotas",
    "runs",
    "spending",
    "work",
]

admin.site.site_header = admin.site.site_title = "asynccode"
admin.site.index_title = "Administration"
admin.site.empty_value_display = "–"
