FROM a
COPY --from=$B a b
