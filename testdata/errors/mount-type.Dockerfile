FROM a
RUN --mount=type=tmp,target=/x y
