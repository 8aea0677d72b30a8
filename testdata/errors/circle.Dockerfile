FROM a AS one
COPY --from=two /x /y
FROM b AS two
COPY --from=one /x /y
