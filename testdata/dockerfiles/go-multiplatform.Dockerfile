# syntax=docker/dockerfile:1.7-labs
ARG GO=1.23
ARG ALPINE=3.20
FROM --platform=$BUILDPLATFORM tonistiigi/xx:1.5.0 AS xx

FROM --platform=$BUILDPLATFORM golang:${GO}-alpine${ALPINE} AS base
COPY --from=xx / /
RUN apk add --no-cache clang lld git openssh-client
ENV CGO_ENABLED=0 GOPRIVATE=git.example.com/*
WORKDIR /src

FROM base AS vendored
RUN mkdir -p -m 0700 ~/.ssh && ssh-keyscan git.example.com >> ~/.ssh/known_hosts
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=ssh \
    --mount=type=secret,id=netrc,target=/root/.netrc,mode=0400 \
    git config --global url."ssh://git@git.example.com/".insteadOf "https://git.example.com/" && \
    go mod download -x

FROM base AS version
RUN --mount=type=bind,target=. <<'EOT'
  echo -n "-X main.version=$(git describe --match 'v[0-9]*' --dirty='.m' --always)" | tee /tmp/.ldflags
  echo -n "$(git describe --always)" > /tmp/.version
EOT

FROM vendored AS build
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT
RUN --mount=type=bind,target=.,rw \
    --mount=type=bind,from=version,source=/tmp/.ldflags,target=/tmp/.ldflags \
    --mount=type=cache,target=/root/.cache \
    --mount=type=cache,target=/go/pkg/mod \
    --mount=type=tmpfs,target=/tmp/work \
    xx-go build -ldflags "$(cat /tmp/.ldflags) -s -w" -o /out/tool-$TARGETOS-$TARGETARCH${TARGETVARIANT:+-$TARGETVARIANT} ./cmd/tool && \
    xx-verify --static /out/*

FROM scratch AS binaries
COPY --from=build /out /

FROM alpine:${ALPINE} AS image
RUN apk add --no-cache ca-certificates tzdata
COPY --from=build /out/tool-* /usr/local/bin/tool
ENTRYPOINT ["tool"]
