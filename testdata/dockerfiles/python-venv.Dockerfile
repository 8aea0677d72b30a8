FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv --without-pip /opt/venv
COPY vendor/ /opt/venv/lib/python3.11/site-packages/
COPY app/ /opt/app/
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/app /opt/venv/lib/python3.11/site-packages

FROM python:3.11-slim
RUN groupadd --system --gid 990 app \
 && useradd --system --uid 990 --gid app --home-dir /var/lib/app --create-home --shell /usr/sbin/nologin app \
 && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow-
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=app:app /opt/app /opt/app
ENV PATH=/opt/venv/bin:$PATH \
    VIRTUAL_ENV=/opt/venv \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/app
USER app
RUN python3 -c 'import main; main.main()' > /var/lib/app/said && test "$(cat /var/lib/app/said)" = "tide: high"
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=2s --start-period=5s --retries=3 CMD ["python3", "-m", "main"]
CMD ["python3", "-m", "main"]
