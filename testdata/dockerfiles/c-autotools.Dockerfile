FROM debian:bookworm AS toolchain
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
 && apt-get install -y gcc make autoconf \
 && rm -rf /var/lib/apt/lists/*

FROM toolchain AS build
ADD lib-1.2.tar.xz /usr/src/
WORKDIR /usr/src/lib-1.2
RUN ./configure --prefix=/usr/local | tee configure.log
RUN make -j"$(nproc)" && make install DESTDIR=/out

FROM debian:bookworm-slim
COPY --from=build /out/ /
RUN ldconfig
CMD ["sh"]
