"""Pages of the administration that are not those of one model. They stand before Django's own, of which the first is the dashboard."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from tasks.admin import dashboard

urlpatterns = [
    path("", admin.site.admin_view(dashboard.index)),
]
