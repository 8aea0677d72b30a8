ARG PREFIX=/usr/local

FROM gcc:12 AS library
ARG PREFIX
WORKDIR /work/lib
COPY greet.c greet.h ./
RUN gcc -O1 -fPIC -shared -Wl,-soname,libgreet.so.1 -o libgreet.so.1.2.3 greet.c \
 && install -D -m 644 libgreet.so.1.2.3 "/out$PREFIX/lib/libgreet.so.1.2.3" \
 && install -D -m 644 greet.h "/out$PREFIX/include/greet.h" \
 && ln -s libgreet.so.1.2.3 "/out$PREFIX/lib/libgreet.so.1" \
 && ln -s libgreet.so.1 "/out$PREFIX/lib/libgreet.so"

FROM library AS program
ARG PREFIX
COPY main.c .
RUN cp -a /out/. / && gcc -O1 -o /bin-greet main.c -lgreet

FROM debian:bookworm-slim
ARG PREFIX
COPY --from=library /out/ /
COPY --from=program /bin-greet $PREFIX/bin/greet
RUN ldconfig && rm -f /var/cache/ldconfig/aux-cache && greet > /greeting
CMD ["greet"]
