# syntax=docker/dockerfile:1
# One file for a whole pipeline: linting, tests and reports as stages of their own.
FROM node:22-alpine AS tools
WORKDIR /w
COPY package*.json .
RUN --mount=type=cache,target=/root/.npm,id=npm-$TARGETARCH npm ci

# lint the sources
FROM tools AS lint
RUN --mount=type=bind,source=src,target=src npm run lint

# unit tests with their report
FROM tools AS unit
ARG SEED=42
RUN --mount=type=bind,source=src,target=src \
    --mount=type=bind,source=test,target=test \
    npm test -- --seed=${SEED} --reporter=junit > /junit.xml; echo $? > /status

FROM scratch AS reports
COPY --from=unit /junit.xml /status /

FROM tools AS check
COPY --from=reports /status /tmp/
RUN read status < /tmp/status && exit "$status"

FROM tools AS audit
RUN --network=default npm audit --audit-level=high || true

FROM nginx:alpine AS release
COPY --from=check /w/node_modules/.package-lock.json /tmp/ok
COPY static /usr/share/nginx/html
