"""HTTP by Django, WebSockets by Channels; sockets are accepted from our own pages only."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asynccode.settings")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

_http = get_asgi_application()  # loads the apps; the consumers below need them

from django.conf import settings  # noqa: E402

import asynccode.urls  # noqa: E402, F401 - else the first request would load it
from asynccode.proxies import BehindProxies  # noqa: E402
from tasks.web.urls import websocket_urlpatterns  # noqa: E402

application = BehindProxies(
    ProtocolTypeRouter(
        {
            "http": _http,
            "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
        }
    ),
    settings.TRUSTED_PROXIES,
)

# What is loaded by now stays: no need to walk through it again and again for garbage while pages are made.
gc.collect()
gc.freeze()
