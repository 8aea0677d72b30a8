ARG PG_MAJOR=17
FROM postgres:${PG_MAJOR}-bookworm AS build
ARG PG_MAJOR
ADD --keep-git-dir=false https://github.com/example/pg-geo.git#v0.8.0 /tmp/pg-geo
RUN apt-get update && apt-get install -y --no-install-recommends build-essential postgresql-server-dev-${PG_MAJOR}
RUN cd /tmp/pg-geo \
  && make clean \
  && make OPTFLAGS="" \
  && make install DESTDIR=/ext

FROM postgres:${PG_MAJOR}-bookworm
COPY --from=build /ext/ /
COPY --chmod=755 initdb.d/*.sh /docker-entrypoint-initdb.d/
COPY initdb.d/*.sql /docker-entrypoint-initdb.d/
COPY <<EOF /etc/postgresql/postgresql.conf
listen_addresses = '*'
shared_preload_libraries = 'pg_stat_statements'
max_connections = ${PG_CONNECTIONS:-100}
EOF
HEALTHCHECK --interval=5s --timeout=3s --retries=20 CMD pg_isready -U "$POSTGRES_USER" -d "$POSTGRES_DB"
CMD ["postgres", "-c", "config_file=/etc/postgresql/postgresql.conf"]
