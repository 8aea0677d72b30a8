# syntax=docker/dockerfile:1
FROM debian:bookworm-slim AS rendered
ARG PORT=8080
COPY <<EOF /etc/app/app.conf
port = $PORT
root = ${ROOT:-/srv}
literal = \$HOME
EOF
COPY <<'EOF' <<-"TABS" /etc/app/raw/
untouched $PORT
EOF
	no tabs before this
	TABS
RUN <<FIRST cat > /first && <<SECOND cat > /second
port $PORT
FIRST
second
SECOND
RUN <<EOF
#!/usr/bin/perl
open(my $out, '>', '/perl') or die;
print $out join(',', map { $_ * 2 } 1 .. 3), "\n";
EOF
RUN 3<<EOF cat <&3 > /third
by another descriptor
EOF

FROM busybox:1.36
COPY --link --from=rendered /etc/app /etc/app
COPY --link --from=rendered /first /second /third /perl /
COPY --parents --from=rendered /etc/./debian_version /version/
COPY --exclude=raw --chmod=go=,u+rw --from=rendered /etc/app /private
