# check=skip=JSONArgsRecommended
FROM node:20-alpine3.20 AS deps
WORKDIR /app
COPY package.json yarn.lock .yarnrc.yml ./
COPY .yarn/releases/ .yarn/releases/
RUN --mount=type=cache,target=/root/.yarn/berry/cache,sharing=locked \
    yarn install --immutable --inline-builds

FROM deps AS build
# PUBLIC_URL where the site will be served
ARG PUBLIC_URL=/
ARG GIT_SHA=unknown
ENV VITE_BASE=$PUBLIC_URL VITE_REVISION=${GIT_SHA}
COPY index.html vite.config.ts tsconfig*.json ./
COPY public public
COPY src src
RUN yarn build && \
    find dist -name '*.js' -size +1k -exec gzip -9k {} +

FROM nginxinc/nginx-unprivileged:1.27-alpine AS site
COPY --from=build --chown=nginx:nginx /app/dist/ /usr/share/nginx/html/
COPY --chmod=0644 <<'NGINX' /etc/nginx/conf.d/default.conf
server {
  listen 8080;
  root /usr/share/nginx/html;
  gzip_static on;
  location / { try_files $uri /index.html; }
}
NGINX
LABEL org.opencontainers.image.revision="${GIT_SHA}"
HEALTHCHECK --interval=15s CMD wget -qO- http://localhost:8080/ >/dev/null || exit 1
