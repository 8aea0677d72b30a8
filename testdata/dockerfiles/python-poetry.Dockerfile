FROM python:3.12-slim AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=off \
    POETRY_HOME=/opt/poetry \
    POETRY_VIRTUALENVS_IN_PROJECT=true \
    POETRY_NO_INTERACTION=1
ENV PATH="$POETRY_HOME/bin:/srv/.venv/bin:$PATH"

FROM base AS poetry
ARG POETRY_VERSION=1.8.4
RUN --mount=type=cache,target=/root/.cache \
    python -m venv $POETRY_HOME \
    && $POETRY_HOME/bin/pip install "poetry==${POETRY_VERSION}"
WORKDIR /srv
COPY ./poetry.lock ./pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache poetry install --only=main --no-root

FROM poetry AS development
RUN poetry install
COPY . .
CMD ["python", "-m", "debugpy", "--listen", "0.0.0.0:5678", "-m", "worker"]

FROM base AS production
COPY --from=poetry /srv/.venv /srv/.venv
COPY worker /srv/worker
WORKDIR /srv
RUN python -c 'import worker'
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=1m --timeout=5s --start-period=20s --start-interval=2s --retries=5 \
    CMD ["python", "-m", "worker.alive"]
CMD ["python", "-m", "worker"]
