FROM debian:bookworm-slim
MAINTAINER The Harbour <harbour@example.com>
ENV HOME /srv/home
ENV LIST a b  c
LABEL description The old forms still work
RUN mkdir -p $HOME && cp /etc/hostname /tmp/ 2>/dev/null; rm -f /tmp/hostname; true
ADD run.sh /
RUN chmod 755 /run.sh
USER 1234
WORKDIR $HOME
ENTRYPOINT /run.sh
CMD ["unused"]
