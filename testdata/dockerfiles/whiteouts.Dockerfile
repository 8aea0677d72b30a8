FROM debian:bookworm-slim AS trimmed
RUN rm -rf /usr/share/zoneinfo /usr/share/info /usr/share/lintian /usr/share/bash-completion \
 && rm -f /var/log/*.log /var/cache/ldconfig/aux-cache \
 && mkdir -p /usr/share/info && echo new > /usr/share/info/dir
RUN rm /etc/issue && mkdir /etc/issue && echo inside > /etc/issue/file
RUN mv /etc/skel /etc/skeleton && rm -rf /opt && echo file > /opt
RUN echo a > /one && mkdir /two && touch /two/a /two/b
RUN rm /two/a && mv /two /three && ln -sf /three/b /one && chmod 700 /three
FROM trimmed
RUN rm -rf /three && cp -a /etc/skeleton /etc/skel && chmod -R go-rwx /etc/skel
