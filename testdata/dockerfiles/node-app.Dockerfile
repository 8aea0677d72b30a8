# syntax=docker/dockerfile:1
FROM node:22-slim AS base
ENV NODE_ENV=production PATH=/app/node_modules/.bin:$PATH
WORKDIR /app

FROM base AS deps
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev

FROM base AS build
COPY --from=deps /app/node_modules node_modules
COPY tsconfig.json ./
COPY src/ src/
RUN npm run build

FROM base
COPY --from=deps --chown=node:node /app/node_modules node_modules
COPY --from=build --chown=node:node /app/dist dist
USER node
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "dist/healthcheck.js"]
CMD ["node", "dist/server.js"]
