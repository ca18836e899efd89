from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import admin
from django.urls import include, path
from django_rq.urls import get_admin_urlpatterns, get_api_urlpatterns

from tasks.api.errors import in_words
from tasks.web import account, errors

# The queues' own pages, for operators only, have styles within them. Their scripts within are not needed, nor allowed.
queues = get_api_urlpatterns() + get_admin_urlpatterns(view_wrapper=csp_update({"style-src": [UNSAFE_INLINE]}))

urlpatterns = [
    path("admin/login/", account.admin_sign_in),
    path("admin/", include("tasks.admin.urls")),
    path("admin/", admin.site.urls),
    path("django-rq/", include((queues, "django_rq"))),
    path("api/v1/", include("tasks.api.v1")),
    path("", include("tasks.web.urls")),
]

handler400 = in_words(errors.bad_request)
handler403 = in_words(errors.not_allowed)
handler404 = in_words(errors.not_found)
handler500 = in_words(errors.server_error)
