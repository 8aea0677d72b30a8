# How a Dockerfile chooses among stages by arguments.
ARG FLAVOUR=slim
ARG DISTRO=debian
ARG DISTRO_TAG=${DISTRO:+bookworm}-${FLAVOUR#x-}
ARG REGISTRY
ARG FEATURE=true
ARG PREFIX=${REGISTRY:-docker.io/library}

FROM ${PREFIX}/debian:${DISTRO_TAG} AS os-debian
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

FROM ${PREFIX}/alpine:3 AS os-alpine
RUN apk add --no-cache ca-certificates

FROM os-${DISTRO} AS os
ARG TARGETARCH
ARG EXTRA="one two"
ARG LIST="${EXTRA// /,}"
ENV EXTRAS=$LIST UNSET=${NONE-unset} SHORT=${TARGETARCH%64} STRIPPED="${EXTRA##* }" REPLACED=${EXTRA/one/1}

FROM os AS feature-true
RUN touch /feature
FROM os AS feature-false

FROM feature-${FEATURE:-false} AS final
ARG FEATURE
ENV FEATURE=${FEATURE:-off}
CMD ["env"]
