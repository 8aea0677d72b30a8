FROM python:3-slim
RUN <<EOT
#!/usr/bin/env python3
print("hello")
EOT
RUN <<one cat > /one && <<two cat > /two
first
one
second
two
COPY --chmod=0755 <<'EOF' /usr/local/bin/entrypoint
#!/bin/sh
exec "$@"
EOF
ENTRYPOINT ["entrypoint"]
