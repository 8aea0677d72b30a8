FROM alpine
ADD https://github.com/example/project.git#v1.2.3:docs /docs
ADD --keep-git-dir=true https://github.com/example/other.git?branch=main /src
ADD git@example.com:team/tool.git /tool
ADD http://example.com/files/archive.tar.gz?token=x /downloads/
ADD --unpack=true https://example.com/rootfs.tar.gz /
