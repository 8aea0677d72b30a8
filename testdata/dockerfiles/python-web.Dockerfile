# syntax=docker/dockerfile:1.7
ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS wheels
RUN <<EOF
set -eu
apt-get update
apt-get install -y --no-install-recommends build-essential libpq-dev
rm -rf /var/lib/apt/lists/*
EOF
COPY requirements.txt /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip wheel -r /tmp/requirements.txt -w /wheels

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="web" org.opencontainers.image.licenses=MIT
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels pip install --no-index --find-links=/wheels app
COPY <<-"CONFIG" /etc/app/gunicorn.py
	bind = "0.0.0.0:8000"
	workers = 4
	CONFIG
STOPSIGNAL SIGINT
VOLUME ["/var/lib/app", "/var/log/app"]
CMD ["gunicorn", "-c", "/etc/app/gunicorn.py", "app:application"]
