from django.contrib import admin
from django.urls import include, path

from tasks.web import account

urlpatterns = [
    path("admin/login/", account.admin_sign_in),
    path("admin/", admin.site.urls),
    path("django-rq/", include("django_rq.urls")),
    path("", include("tasks.web.urls")),
]

handler400 = "tasks.web.errors.bad_request"
handler403 = "tasks.web.errors.not_allowed"
handler404 = "tasks.web.errors.not_found"
handler500 = "tasks.web.errors.server_error"
