FROM debian:bookworm-slim
RUN groupadd -g 2000 crew && useradd -u 2001 -g crew -d /home/mate -m mate \
 && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
COPY --chown=mate:crew rope/ /home/mate/rope/
COPY --chown=mate --chmod=640 rope/knot.txt /home/mate/knot
COPY --chown=0:2000 rope /srv/rope
RUN install -o mate -g crew -m 4755 /bin/true /usr/local/bin/setuid-true \
 && install -d -o root -g crew -m 2775 /srv/shared \
 && install -d -m 1777 /srv/sticky \
 && ln -s ../shared /srv/rope/link && ln /home/mate/knot /home/mate/hard \
 && mkfifo -m 600 /srv/pipe && touch '/srv/a name with  spaces' "/srv/$(printf 'new\nline')" \
 && chmod 000 /srv/rope/knot.txt
USER mate:crew
WORKDIR /home/mate/new/dir
RUN id -un > who && umask 077 && mkdir private && touch private/file
VOLUME /home/mate/new
