FROM busybox:1.36 AS parent
WORKDIR /app
ONBUILD COPY deps.txt ./
ONBUILD RUN sort deps.txt > deps.lock
ONBUILD ENV MODE=child
LABEL tier=base

FROM parent AS child
COPY . .
RUN test "$MODE" = child && wc -l < deps.lock > count

FROM busybox:1.36
COPY --from=child /app /app
