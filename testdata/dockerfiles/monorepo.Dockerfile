# escape=`
ARG REGISTRY=registry.example.com:5000/base
ARG TAG=stable
FROM ${REGISTRY}/builder:${TAG} AS builder
COPY ["package a", "package b/", "/work/"]

FROM builder AS lint
RUN lint `
    --all

FROM builder AS test
ARG SUITE
RUN test ${SUITE:-unit}

FROM builder AS package
COPY --from=lint /work/.lint-ok /ok/lint
COPY --from=test /work/.test-ok /ok/test
RUN ["package", "--out", "/dist"]

FROM ${REGISTRY}/runtime:${TAG}
COPY --from=package /dist /opt/app
WORKDIR /opt/app
WORKDIR bin
ENV HOME=/opt/app DATA=$HOME/data
CMD ./start --data $DATA
