# syntax=docker/dockerfile:1
ARG NODE_VERSION=22.12.0

FROM node:${NODE_VERSION}-bookworm-slim AS base
ENV PNPM_HOME=/pnpm
ENV PATH=$PNPM_HOME:$PATH
RUN corepack enable
WORKDIR /repo

FROM base AS fetched
COPY pnpm-lock.yaml pnpm-workspace.yaml ./
RUN --mount=type=cache,id=pnpm,target=/pnpm/store pnpm fetch

FROM fetched AS built
ARG APP=api
COPY --parents package.json packages/*/package.json apps/*/package.json ./
RUN --mount=type=cache,id=pnpm,target=/pnpm/store pnpm install --offline --frozen-lockfile
COPY . .
RUN pnpm --filter "@shop/${APP}..." build \
 && pnpm --filter "@shop/${APP}" deploy --prod /out

FROM base AS tested
COPY --from=built /repo /repo
RUN --network=none pnpm -r test

FROM gcr.io/distroless/nodejs22-debian12:nonroot
WORKDIR /app
COPY --link --from=built --chown=65532:65532 /out /app
ENV NODE_ENV=production \
    NODE_OPTIONS="--enable-source-maps --max-old-space-size=384"
EXPOSE 3000/tcp
CMD ["dist/main.js"]
