# syntax=docker/dockerfile:1.12
ARG PYTHON=3.13
ARG UV=0.5

FROM ghcr.io/astral-sh/uv:${UV} AS uv

FROM python:${PYTHON}-slim-bookworm AS build
COPY --from=uv /uv /uvx /usr/local/bin/
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/venv
WORKDIR /src
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    uv sync --locked --no-install-project --no-dev
COPY --exclude=tests --exclude=**/*.pyc . .
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=index,env=UV_INDEX_PRIVATE_PASSWORD,required=true \
    uv sync --locked --no-dev --no-editable

FROM python:${PYTHON}-slim-bookworm
RUN <<'EOF'
set -e
groupadd --gid 1000 service
useradd --uid 1000 --gid service --no-create-home --shell /usr/sbin/nologin service
EOF
COPY --link --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
USER service
EXPOSE 8000
ENTRYPOINT ["uvicorn"]
CMD ["service.app:create", "--factory", "--host", "0.0.0.0", "--port", "8000"]
