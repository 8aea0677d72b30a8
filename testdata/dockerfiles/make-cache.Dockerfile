FROM gcc:12 AS objects
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/objects,id=make-cache-objects make O=/objects && make O=/objects install
RUN --mount=type=cache,target=/objects,id=make-cache-objects,ro test -f /objects/one.o

FROM debian:bookworm-slim
COPY --from=objects /usr/local/bin/ /usr/local/bin/
RUN one | two
CMD ["one"]
