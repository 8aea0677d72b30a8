FROM a
RUN --mount=typ=tmpfs,target=/x y
