FROM a
COPY --chmod=64a a b
