FROM debian:bookworm-slim
ARG S6_OVERLAY_VERSION=3.2.0.2
ARG TARGETARCH
RUN apt-get update && apt-get install -y --no-install-recommends xz-utils nginx-light cron && rm -rf /var/lib/apt/lists/*
ADD --checksum=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef \
    https://github.com/just-containers/s6-overlay/releases/download/v${S6_OVERLAY_VERSION}/s6-overlay-noarch.tar.xz /tmp
ADD https://github.com/just-containers/s6-overlay/releases/download/v${S6_OVERLAY_VERSION}/s6-overlay-${TARGETARCH/amd64/x86_64}.tar.xz /tmp/arch.tar.xz
RUN tar -C / -Jxpf /tmp/s6-overlay-noarch.tar.xz && tar -C / -Jxpf /tmp/arch.tar.xz && rm /tmp/*.tar.xz
COPY --chmod=u=rwx,go=rx <<"RUN" /etc/s6-overlay/s6-rc.d/nginx/run
#!/command/execlineb -P
nginx -g "daemon off;"
RUN
COPY <<TYPE <<DEPENDS /etc/s6-overlay/s6-rc.d/nginx/
longrun
TYPE
base
DEPENDS
RUN echo longrun > /etc/s6-overlay/s6-rc.d/nginx/type \
 && mkdir -p /etc/s6-overlay/s6-rc.d/user/contents.d && touch /etc/s6-overlay/s6-rc.d/user/contents.d/nginx
ENV S6_KEEP_ENV=1 S6_CMD_WAIT_FOR_SERVICES_MAXTIME=15000
STOPSIGNAL SIGHUP
EXPOSE 80-82 443/udp
ENTRYPOINT ["/init"]
