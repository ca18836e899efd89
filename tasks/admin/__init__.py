"""The operator's view of the rows: to look, and to do what the verbs do. Runs are moved by those, never here."""

from django.contrib import admin

from tasks.admin import accounts, operations, runs, work

__all__ = ["accounts", "operations", "runs", "work"]

admin.site.site_header = admin.site.site_title = "asynccode"
admin.site.index_title = "Administration"
admin.site.empty_value_display = "–"
