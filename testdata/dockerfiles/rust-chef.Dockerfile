# syntax=docker/dockerfile:1
ARG RUST=1.83
FROM lukemathwalker/cargo-chef:latest-rust-${RUST}-slim-bookworm AS chef
WORKDIR /w
RUN apt-get update && apt-get install --no-install-recommends -y \
        # for openssl-sys
        libssl-dev pkg-config \
        # for zstd-sys
        clang \
    && rm -rf /var/lib/apt/lists/*

FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS builder
COPY --from=planner /w/recipe.json recipe.json
ARG FEATURES="jemalloc,metrics"
ENV CARGO_NET_RETRY=10 RUSTFLAGS="-C target-cpu=x86-64-v2"
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=shared \
    --mount=type=cache,target=/usr/local/cargo/git,sharing=shared \
    cargo chef cook --release --features $FEATURES --recipe-path recipe.json
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --release --features $FEATURES --bin ledger \
    && install -Ds target/release/ledger /out/usr/bin/ledger

FROM builder AS checks
RUN cargo clippy --all-targets -- -D warnings
RUN cargo test --release

FROM debian:bookworm-slim AS runtime
RUN apt-get update && apt-get install -y --no-install-recommends libssl3 ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=builder /out/ /
USER nobody
ENTRYPOINT ["/usr/bin/ledger"]
CMD ["serve", "--config=/etc/ledger.toml"]
