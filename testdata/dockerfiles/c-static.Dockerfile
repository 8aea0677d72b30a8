FROM gcc:12 AS build
ARG CFLAGS="-O2 -Wall -Werror"
WORKDIR /src
COPY Makefile ./
COPY include include
COPY src src
RUN make -j"$(nproc)" CFLAGS="$CFLAGS" && make install DESTDIR=/out

FROM build AS test
RUN /out/usr/bin/sums 1 2 3 | tee /result && [ "$(cat /result)" = 6 ]

FROM scratch
COPY --from=test /result /result
COPY --from=build /out/usr/bin/sums /sums
USER 65532:65532
ENTRYPOINT ["/sums"]
CMD ["0"]
