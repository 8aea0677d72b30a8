FROM node:22 AS site
WORKDIR /site
COPY . .
RUN npm ci && npm run build

FROM nginx:1.29-alpine
COPY nginx/*.conf /etc/nginx/conf.d/
COPY --from=site --chmod=u=rwX,go=rX /site/dist/ /usr/share/nginx/html/
COPY <<robots.txt <<health.json /usr/share/nginx/html/
User-agent: *
Disallow: /private
robots.txt
{"status": "ok"}
health.json
EXPOSE 80 443
