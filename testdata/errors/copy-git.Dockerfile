FROM a
COPY git@example.com:a/b.git /b
