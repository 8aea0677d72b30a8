FROM busybox:1.36 AS pages
WORKDIR /site
COPY content/ content/
COPY render.sh .
RUN sh render.sh content public && find public -type f -exec gzip -9nk {} +

FROM busybox:1.36
RUN echo 'web:x:1001:1001::/www:/bin/false' >> /etc/passwd && mkdir -m 1777 /var/upload
COPY --from=pages --chown=1001:1001 /site/public /www
COPY httpd.conf /etc/httpd.conf
USER web
WORKDIR /www
EXPOSE 8080
STOPSIGNAL SIGINT
HEALTHCHECK --interval=10s --timeout=1s CMD wget -q -O /dev/null http://127.0.0.1:8080/index.html
CMD ["httpd", "-f", "-v", "-p", "8080", "-c", "/etc/httpd.conf"]
