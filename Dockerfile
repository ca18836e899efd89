# The image of every service: `manage.py` with its packages, git, and nothing that builds. docs/deploy.md says how it is run.
#
# It runs as uid 1000 on a read-only root file system; only the data folder (a volume) and /tmp (a tmpfs) are written to. It holds no
# secret: these come from the environment when it is started. `docker build --pull` takes the newest base with its fixes.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS builder
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/asynccode/venv
COPY requirements.txt /tmp/requirements.txt
# Wheels with the hashes that were reviewed, so that no package's own code runs here and none can be another one.
RUN /opt/asynccode/venv/bin/python -m pip install --quiet --require-hashes --only-binary=:all: --requirement /tmp/requirements.txt
COPY . /opt/asynccode/app
WORKDIR /opt/asynccode/app
# The settings want secrets and a data folder, which are made up for this step and thrown away with this stage.
RUN ASYNCCODE_DATA=/tmp/data STATIC_ROOT=/opt/asynccode/static /opt/asynccode/venv/bin/python manage.py collectstatic --no-input --verbosity 0 \
 && /opt/asynccode/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/asynccode/app

FROM ${BASE_IMAGE}
# git makes mirrors and pushes; python3 and git are also what local sandboxes see. Node comes from its wheel with the first agent that
# is installed into the data folder, for local sandboxes only.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git python3 tzdata \
 && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log \
 && groupadd --gid 1000 asynccode \
 && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /var/lib/asynccode --shell /usr/sbin/nologin asynccode \
 && install --directory --owner=1000 --group=1000 --mode=0711 /var/lib/asynccode
COPY --from=builder /opt/asynccode /opt/asynccode
ENV ASYNCCODE_DATA=/var/lib/asynccode \
    STATIC_ROOT=/opt/asynccode/static \
    LOCAL_SANDBOXES=0 \
    LANG=C.UTF-8 \
    PATH=/opt/asynccode/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/asynccode/app
USER 1000:1000
EXPOSE 8000
STOPSIGNAL SIGTERM
# For the web service; compose.yaml has the others'.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT') or 8000}/healthz\", timeout=4)"]
ENTRYPOINT ["python", "/opt/asynccode/app/manage.py"]
CMD ["web", "--host", "0.0.0.0"]
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="asynccode" \
      org.opencontainers.image.description="One prompt, several coding agents, each in its own sandbox, side by side" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
