FROM a
RUN --mount=type=bind,target=/x,z y
