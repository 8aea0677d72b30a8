FROM a
RUN --mont=type=cache,target=/c make
