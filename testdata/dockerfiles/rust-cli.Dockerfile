FROM rust:1-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /work
ADD --checksum=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \
    https://example.com/data/words.tar.gz /usr/share/dict/
COPY --parents Cargo.* */Cargo.toml ./
COPY --exclude=target --exclude=**/*.md . .
ARG PROFILE=release
ARG FLAGS="--locked --profile ${PROFILE}"
RUN cargo build ${FLAGS}

FROM scratch AS binary
COPY --link --from=build /work/target/${PROFILE:-release}/tool /bin/tool

FROM alpine:3.22
COPY --link --from=binary / /
ENTRYPOINT ["tool"]
