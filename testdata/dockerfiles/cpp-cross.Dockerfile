# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM debian:bookworm AS compilers
ARG BUILDARCH
RUN rm -f /etc/apt/apt.conf.d/docker-clean
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked <<EOF
set -eux
for arch in amd64 arm64; do dpkg --add-architecture $arch; done
apt-get update
apt-get install -y --no-install-recommends cmake ninja-build ccache \
    g++-x86-64-linux-gnu g++-aarch64-linux-gnu
EOF

FROM compilers AS target-amd64
ENV TRIPLE=x86_64-linux-gnu
FROM compilers AS target-arm64
ENV TRIPLE=aarch64-linux-gnu

FROM target-${TARGETARCH} AS build
ARG BUILD_TYPE=RelWithDebInfo TARGETARCH TARGETVARIANT
COPY CMakeLists.txt /src/
COPY cmake /src/cmake
COPY src /src/src
RUN --mount=type=cache,id=ccache-$TARGETARCH,target=/root/.cache/ccache \
    cmake -S /src -B /build -G Ninja \
      -DCMAKE_BUILD_TYPE=$BUILD_TYPE \
      -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache \
      -DCMAKE_CXX_COMPILER=${TRIPLE}-g++ && \
    cmake --build /build && \
    DESTDIR=/out cmake --install /build --strip

FROM scratch AS artifacts
COPY --from=build /out/ /

FROM debian:bookworm-slim
COPY --link --from=artifacts / /
ENTRYPOINT ["/usr/local/bin/renderd"]
