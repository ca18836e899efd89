from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import admin
from django.urls import include, path
from django_rq.urls import get_admin_urlpatterns, get_api_urlpatterns

from tasks.web import account

# The queues' own pages, for operators only, have styles within them. Their scripts within are not needed, nor allowed.
queues = get_api_urlpatterns() + get_admin_urlpatterns(view_wrapper=csp_update({"style-src": [UNSAFE_INLINE]}))

urlpatterns = [
    path("admin/login/", account.admin_sign_in),
    path("admin/", admin.site.urls),
    path("django-rq/", include((queues, "django_rq"))),
    path("", include("tasks.web.urls")),
]

handler400 = "tasks.web.errors.bad_request"
handler403 = "tasks.web.errors.not_allowed"
handler404 = "tasks.web.errors.not_found"
handler500 = "tasks.web.errors.server_error"
