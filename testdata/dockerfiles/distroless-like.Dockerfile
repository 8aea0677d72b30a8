FROM debian:bookworm-slim AS collect
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN mkdir -p /rootfs/{bin,etc,tmp,home/nonroot,usr,lib,var/lib} \
 && chmod 1777 /rootfs/tmp \
 && chown 65532:65532 /rootfs/home/nonroot && chmod 700 /rootfs/home/nonroot
RUN for program in sed date; do \
      cp --parents "$(readlink -f "$(type -P $program)")" /rootfs; \
      ldd "$(type -P $program)" | grep -o '/lib[^ ]*' | while read -r library; do \
        mkdir -p "/rootfs$(dirname "$library")"; cp -L "$library" "/rootfs$library"; \
      done; \
    done
RUN printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > /rootfs/etc/passwd \
 && printf 'root:x:0:\nnonroot:x:65532:\n' > /rootfs/etc/group \
 && grep -E '^(PRETTY_NAME|ID|VERSION_ID)=' /etc/os-release > /rootfs/etc/os-release

FROM scratch AS base
COPY --from=collect /rootfs/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER nonroot
WORKDIR /home/nonroot

FROM base
COPY --chown=nonroot:nonroot program.sed .
RUN ["/usr/bin/sed", "-n", "-f", "program.sed", "-i", "program.sed"]
ENTRYPOINT ["/usr/bin/sed", "-f", "program.sed"]
