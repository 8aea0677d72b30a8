FROM a
COPY https://example.com/a /b
