FROM debian:bookworm-slim
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends tini \
 && rm -f /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log
COPY --chmod=755 start.sh /usr/local/bin/start
ENTRYPOINT ["/usr/bin/tini", "--", "start"]
CMD ["serve"]
