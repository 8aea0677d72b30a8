FROM a
RUN --mount=from=$B,target=/x y
