# syntax=docker/dockerfile:1
# Contexts besides the main one: proto (a directory), toolchain (an image), shared (another target of the bake file).
FROM toolchain AS generate
COPY --from=proto / /proto
RUN --mount=type=bind,from=shared,source=/schemas,target=/schemas,readonly \
    protoc -I /proto -I /schemas --go_out=/gen /proto/*.proto

FROM golang:1.23 AS work
WORKDIR /go/src/mono
COPY go.work go.work.sum ./
COPY --parents */go.mod */go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=ssh,id=default \
    GOFLAGS=-mod=mod go mod download all

FROM work AS gateway-build
COPY --from=generate /gen gen
COPY gateway gateway
COPY lib lib
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -o /bin/gateway ./gateway

FROM work AS worker-build
COPY --from=generate /gen gen
COPY worker worker
COPY lib lib
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -o /bin/worker ./worker

FROM shared AS gateway
COPY --from=gateway-build /bin/gateway /bin/gateway
ENTRYPOINT ["/bin/gateway"]

FROM shared AS worker
COPY --from=worker-build /bin/worker /bin/worker
ENTRYPOINT ["/bin/worker"]
