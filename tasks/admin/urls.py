"""Pages of the administration that are not those of one model. They stand before Django's own, of which the first is the dashboard."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from tasks.admin import dashboard, live

urlpatterns = [
    path("", admin.site.admin_view(dashboard.index)),
    path("sandboxes/", admin.site.admin_view(live.sandboxes), name="admin-sandboxes"),
    path("queues/", admin.site.admin_view(live.jobs), name="admin-queues"),
    path("settings/", admin.site.admin_view(live.variables), name="admin-settings"),
]
