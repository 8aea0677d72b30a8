FROM busybox:1.36 AS source
RUN mkdir -p /tree/empty /tree/deep/er && echo 1 > /tree/one && echo 2 > /tree/deep/er/two \
 && ln -s one /tree/relative && ln -s /tree/deep /tree/absolute && ln -s /nowhere /tree/dangling \
 && chmod 711 /tree/deep && chown 12:34 /tree/one && mkdir /real && ln -s /real /alias

FROM source
WORKDIR /work
COPY files/a.txt b/
COPY files/a.txt renamed.txt
COPY files/a.txt files/b.txt many/
COPY files/*.txt matched/
COPY files/[ab].txt classes/
COPY ["files/with space.txt", "files/b.txt", "json form/"]
COPY files ./
COPY files/ /alias/
COPY files/nested/ ../outside
COPY --from=source /tree /copied
COPY --from=source /tree/relative /tree/deep /followed/
COPY --from=0 /tree/absolute/er /er
COPY --from=source /tree/one /tree/deep/er/t?o /pair/
