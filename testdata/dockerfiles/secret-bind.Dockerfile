FROM busybox:1.36 AS dictionary
RUN mkdir /words && printf 'port\nstarboard\n' > /words/list

FROM busybox:1.36
RUN --mount=type=bind,from=dictionary,source=/words,target=/mnt/words \
    --mount=type=bind,source=scripts,target=/mnt/scripts \
    --mount=type=secret,id=token \
    --mount=type=secret,id=key,target=/etc/key,mode=0400 \
    --mount=type=tmpfs,target=/mnt/scratch \
    sh /mnt/scripts/sign.sh /mnt/words/list > /signed
RUN test ! -e /run/secrets/token && test ! -s /etc/key && rm -rf /mnt /run/secrets /etc/key
