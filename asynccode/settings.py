"""All settings. Every environment variable is read here and nowhere else; `.env.example` lists them."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from asynccode import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent

# --- where things are -------------------------------------------------------------------------------------------
DATA = env.data_folder()
HOST_NAME = env.text("ASYNCCODE_HOST", socket.gethostname())
PUBLIC_URL = env.text("PUBLIC_URL").rstrip("/")
PORT = env.number("PORT", 8000, least=1)
BASE_URL = PUBLIC_URL or f"http://localhost:{env.noted_port(DATA) or PORT}"  # of links, whoever writes them

# A socket's path must stay under 107 bytes, so a deep data folder gets a short one beside it.
SOCKETS = DATA / "sockets"
if len(str(SOCKETS)) > 80:
    SOCKETS = Path("/tmp") / f"asynccode-{os.geteuid()}-{hashlib.sha256(str(DATA).encode()).hexdigest()[:8]}"  # noqa: S108

IS_DATABASE_EMBEDDED = not env.text("DATABASE_URL")
IS_REDIS_EMBEDDED = not env.text("REDIS_URL")
DATABASE_URL = env.text("DATABASE_URL", f"postgres://asynccode@/asynccode?host={quote(str(SOCKETS))}/postgres")
REDIS_URL = env.text("REDIS_URL", f"unix://{quote(str(SOCKETS))}/valkey/valkey.sock")

# --- Django -----------------------------------------------------------------------------------------------------
DEBUG = env.flag("DEBUG")
SECRET_KEY = env.text("SECRET_KEY") or env.kept_secret(DATA, "secret_key")
ENCRYPTION_KEYS = env.names("ENCRYPTION_KEYS") or [
    base64.urlsafe_b64encode(hashlib.sha256(env.kept_secret(DATA, "encryption_key").encode()).digest()).decode()
]
KEPT_KEYS = [name for name in ("SECRET_KEY", "ENCRYPTION_KEYS") if not env.text(name)]  # made up, and kept in the data folder
_public_host = urlsplit(PUBLIC_URL).hostname
ALLOWED_HOSTS = env.names("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]", *([_public_host] if _public_host else [])]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
IS_HTTPS = PUBLIC_URL.startswith("https://")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES", "127.0.0.0/8 ::1" if PUBLIC_URL else "")  # whose X-Forwarded-For is believed

INSTALLED_APPS = [
    "asynccode",  # first, so that its commands are taken before others of the same name
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "django_rq",
    "template_partials",
    "csp",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.github",
    "tasks",
]
MIDDLEWARE = [
    "tasks.web.middleware.PlainRefusals",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "tasks.web.middleware.SignInFirst",
]
ROOT_URLCONF = "asynccode.urls"
ASGI_APPLICATION = "asynccode.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["template_partials.templatetags.partials"],
        },
    }
]
# The web server answers each request in a thread of its own, so connections that were kept a thread would pile up:
# it gets a pool (its start sets the variable); workers keep the one they have; commands connect once.
DATABASES = {"default": env.database(DATABASE_URL, pool=env.number("DATABASE_POOL", 0))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL, "KEY_PREFIX": "cache"}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}}

# E-mail is sent to those who want it, where there is a server for it.
SENDS_EMAIL = bool(env.text("EMAIL_URL"))
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if SENDS_EMAIL else 'dummy'}.EmailBackend"
if SENDS_EMAIL:
    _mail = env.mail(env.text("EMAIL_URL"))
    EMAIL_HOST, EMAIL_PORT, EMAIL_USE_SSL, EMAIL_USE_TLS = _mail["HOST"], _mail["PORT"], _mail["USE_SSL"], _mail["USE_TLS"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["HOST_USER"], _mail["HOST_PASSWORD"]
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("EMAIL_FROM", f"asynccode@{urlsplit(BASE_URL).hostname}")

AUTH_USER_MODEL = "tasks.User"
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
PASSWORD_LOGIN = env.flag("PASSWORD_LOGIN")  # beside login links; operators make the accounts
ALLOW_TEST_USERS = env.choice("ALLOW_TEST_USERS", "off", ("off", "local", "public"))  # local: only where there is no PUBLIC_URL
TEST_USER_USD = env.number("TEST_USER_USD", 5)  # of each, a month
TEST_USER_RUNS = env.number("TEST_USER_RUNS", 2, least=1)
TEST_USER_RUNS_A_DAY = env.number("TEST_USER_RUNS_A_DAY", 20)
CSRF_FAILURE_VIEW = "tasks.web.errors.csrf_failure"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "static/"
# Collected where they are served from: by us in the data folder, or before, as in the image.
ARE_STATIC_FILES_COLLECTED = bool(env.text("STATIC_ROOT"))
STATIC_ROOT = Path(env.text("STATIC_ROOT") or DATA / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_ROOT = DATA / "media"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

# --- the browser's side of security -----------------------------------------------------------------------------
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if IS_HTTPS else None
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    },
}

# --- jobs -------------------------------------------------------------------------------------------------------
# Rows are the queue; Redis only carries nudges. `runs` may be taken by any host, `host-NAME` only by the one that
# holds the sandbox, `operations` and `operations-NAME` hold long chores.
QUEUE_RUNS = "runs"
QUEUE_HOST = f"host-{HOST_NAME}"
QUEUE_OPERATIONS = "operations"
QUEUE_HOST_OPERATIONS = f"operations-{HOST_NAME}"
RQ_QUEUES = {name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": 300} for name in (QUEUE_RUNS, QUEUE_HOST)}
RQ_QUEUES |= {name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": 4 * 3600} for name in (QUEUE_OPERATIONS, QUEUE_HOST_OPERATIONS)}
RQ_SHOW_ADMIN_LINK = False  # their pages are at one address only: /django-rq/
RQ = {"DEFAULT_RESULT_TTL": 60, "DEFAULT_FAILURE_TTL": 24 * 3600}
WORKERS = env.number("WORKERS", max(2, min(8, 2 * (os.cpu_count() or 1))), least=1)

# --- sandboxes --------------------------------------------------------------------------------------------------
# The SDK of E2B would read its variables itself; it gets them from here.
E2B_API_KEY = env.text("E2B_API_KEY")
E2B_DOMAIN = env.text("E2B_DOMAIN")
E2B_API_URL = env.text("E2B_API_URL")
E2B_SANDBOX_URL = env.text("E2B_SANDBOX_URL")
E2B_TEMPLATE = env.text("E2B_TEMPLATE")  # else the one that `manage.py e2b build-template` made, else the one of the agent's name
E2B_MAX_SANDBOXES = env.number("E2B_MAX_SANDBOXES", 20, least=1)  # awake at one time; the plan's limit
E2B_CREATIONS_PER_S = env.number("E2B_CREATIONS_PER_S", 1, least=1)
E2B_MAX_LIFE_S = env.number("E2B_MAX_LIFE_S", 3600, least=300)  # awake without a pause; the plan's limit
E2B_TIMEOUT_S = env.number("E2B_TIMEOUT_S", 900, least=60)  # it is paused when nobody has followed it for so long
LOCAL_SANDBOXES = env.flag("LOCAL_SANDBOXES", True)  # 0: none can be made on this machine, as in a container
SANDBOX_BACKEND = env.choice("SANDBOX_BACKEND", "e2b" if E2B_API_KEY or not LOCAL_SANDBOXES else "local", ("local", "e2b"))
SANDBOX_FALLBACK = env.choice("SANDBOX_FALLBACK", "none", ("none", "local"))  # where runs start when E2B refuses the account
if not LOCAL_SANDBOXES and "local" in (SANDBOX_BACKEND, SANDBOX_FALLBACK):
    raise ImproperlyConfigured(
        "SANDBOX_BACKEND and SANDBOX_FALLBACK cannot be local where LOCAL_SANDBOXES is 0, as in a container (docs/deploy.md)."
    )
LOCAL_ROOTFS = env.text("LOCAL_ROOTFS")  # a folder with the system that local sandboxes see; else this machine's /usr
PREPARED_DAYS = env.number("PREPARED_DAYS", 7, least=1)  # for which a prepared environment is kept
# Where sandboxes that are not on this machine reach the broker, and where the gateway listens for them.
GATEWAY_PUBLIC_URL = env.text("GATEWAY_PUBLIC_URL").rstrip("/")
GATEWAY_LISTEN = env.text("GATEWAY_LISTEN", "127.0.0.1:8010")
SANDBOX_MEMORY_MB = env.number("SANDBOX_MEMORY_MB", 4096, least=64)
SANDBOX_PROCESSES = env.number("SANDBOX_PROCESSES", 1024, least=16)
SANDBOX_DISK_MB = env.number("SANDBOX_DISK_MB", 20480, least=64)
SANDBOX_RETENTION_H = env.number("SANDBOX_RETENTION_H", 168, least=1)  # a paused sandbox is kept this long for follow-ups
SANDBOX_CPU_WEIGHT = env.number("SANDBOX_CPU_WEIGHT", 100, least=1)

# --- runs -------------------------------------------------------------------------------------------------------
_here = max(4, 4 * (os.cpu_count() or 1))
MAX_ACTIVE_RUNS = env.number("MAX_ACTIVE_RUNS", max(_here, E2B_MAX_SANDBOXES) if SANDBOX_BACKEND == "e2b" else _here, least=1)
MAX_ACTIVE_RUNS_PER_USER = env.number("MAX_ACTIVE_RUNS_PER_USER", MAX_ACTIVE_RUNS, least=1)
MAX_ACTIVE_CHECKS = env.number("MAX_ACTIVE_CHECKS", max(1, MAX_ACTIVE_RUNS // 4), least=1)  # of those
START_LEASE_S = env.number("START_LEASE_S", 30, least=5)  # a start that shows no life for this long is taken over
FOLLOW_LEASE_S = env.number("FOLLOW_LEASE_S", 10, least=2)
SETUP_TIMEOUT_S = env.number("SETUP_TIMEOUT_S", 1800, least=1)
AGENT_TIMEOUT_S = env.number("AGENT_TIMEOUT_S", 3600, least=1)
AGENT_SILENCE_S = env.number("AGENT_SILENCE_S", 1800, least=1)
AGENT_RETRY_S = env.number("AGENT_RETRY_S", 15, least=1)  # after a rate limit or an overload; the second time four times as long
CHECKPOINT_S = env.number("CHECKPOINT_S", 30, least=1)
MAX_PATCH_FILE_MB = env.number("MAX_PATCH_FILE_MB", 10, least=1)
MAX_PATCH_MB = env.number("MAX_PATCH_MB", 200, least=1)
MAX_ARTIFACT_MB = env.number("MAX_ARTIFACT_MB", 10, least=1)
MAX_ARTIFACTS_MB = env.number("MAX_ARTIFACTS_MB", 50, least=1)  # of a run
MAX_ARTIFACTS = env.number("MAX_ARTIFACTS", 200, least=1)  # of a run

# --- models -----------------------------------------------------------------------------------------------------
# The site's keys, for those who have none of their own. A key and where it is good are one: each goes to no other's address.
ANTHROPIC_API_KEY = env.text("ANTHROPIC_API_KEY")
CLAUDE_CODE_OAUTH_TOKEN = env.text("CLAUDE_CODE_OAUTH_TOKEN")
ANTHROPIC_BASE_URL = env.text("ANTHROPIC_BASE_URL")
OPENAI_API_KEY = env.text("CODEX_API_KEY") or env.text("OPENAI_API_KEY")
OPENAI_BASE_URL = env.text("OPENAI_BASE_URL")
GEMINI_API_KEY = env.text("GEMINI_API_KEY")
GOOGLE_GEMINI_BASE_URL = env.text("GOOGLE_GEMINI_BASE_URL")

# --- GitHub -----------------------------------------------------------------------------------------------------
GITHUB_URL = env.text("GITHUB_URL", "https://github.com").rstrip("/")
GITHUB_API_URL = "https://api.github.com" if GITHUB_URL == "https://github.com" else f"{GITHUB_URL}/api/v3"
GITHUB_CLIENT_ID = env.text("GITHUB_CLIENT_ID")  # of an OAuth app or a GitHub App: sign-in with GitHub
GITHUB_CLIENT_SECRET = env.text("GITHUB_CLIENT_SECRET")
GITHUB_TOKEN = env.text("GITHUB_TOKEN")  # for those who have connected no account of their own
GITHUB_WEBHOOK_SECRET = env.text("GITHUB_WEBHOOK_SECRET")
GITHUB_MENTION = env.text("GITHUB_MENTION").removeprefix("@")  # else the name of the GitHub App, else asynccode
GITHUB_LABEL = env.text("GITHUB_LABEL", "asynccode")
GITHUB_ALLOWED_ORGS = frozenset(name.lower() for name in env.names("GITHUB_ALLOWED_ORGS"))
GITHUB_ALLOWED_USERS = frozenset(name.lower() for name in env.names("GITHUB_ALLOWED_USERS"))

# Of allauth only the way to GitHub and back is used (tasks/web/github_sign_in.py): none of its pages has an address here, and
# none of its rows is written. Its token store is off, because it would not encrypt.
SOCIALACCOUNT_ADAPTER = "tasks.web.github_sign_in.Adapter"
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_QUERY_EMAIL = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_PROVIDERS = {"github": {"OAUTH_PKCE_ENABLED": True}}
ACCOUNT_EMAIL_VERIFICATION = "none"

# --- repositories -----------------------------------------------------------------------------------------------
LOCAL_REPO_ROOTS = [Path(p).expanduser() for p in env.names("LOCAL_REPO_ROOTS", ":")] or ([Path.home()] if IS_DATABASE_EMBEDDED else [])
ALLOW_PRIVATE_HOSTS = frozenset(env.names("ALLOW_PRIVATE_HOSTS"))
GIT_TIMEOUT_S = env.number("GIT_TIMEOUT_S", 30, least=1)  # a fetch a person waits for
MIRROR_TIMEOUT_S = env.number("MIRROR_TIMEOUT_S", 3 * 3600, least=1)  # the first mirror, an operation

# --- health and logs --------------------------------------------------------------------------------------------
METRICS_TOKEN = env.text("METRICS_TOKEN")  # with which /metrics, and the details of /readyz, can be had from elsewhere
LOG_FORMAT = env.choice("LOG_FORMAT", "text" if IS_DATABASE_EMBEDDED or os.isatty(2) else "json", ("text", "json"))
SENTRY_DSN = env.text("SENTRY_DSN")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"format": "{levelname} {name}: {message}", "style": "{"},
        "json": {"()": "asynccode.logs.AsJson"},
    },
    "filters": {"links": {"()": "asynccode.logs.HideLinks"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT, "filters": ["links"]}},
    "root": {"handlers": ["console"], "level": env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))},
    "loggers": {
        "daphne": {"level": "WARNING"},
        "rq": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
    },
}

ENVIRONMENT = env.ASKED  # which variables were read, for the administration

if SENTRY_DSN:
    from asynccode import sentry

    sentry.start(SENTRY_DSN, HOST_NAME)
