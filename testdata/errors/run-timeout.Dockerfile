FROM alpine
RUN --timeout=5 make
