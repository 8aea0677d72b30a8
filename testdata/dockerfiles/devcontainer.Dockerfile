FROM mcr.microsoft.com/devcontainers/base:bookworm AS dev
ARG USERNAME=vscode
ARG USER_UID=1000
ARG USER_GID=$USER_UID
RUN if [ "$USER_GID" != "1000" ] || [ "$USER_UID" != "1000" ]; then \
        groupmod --gid $USER_GID $USERNAME \
        && usermod --uid $USER_UID --gid $USER_GID $USERNAME \
        && chown -R $USER_UID:$USER_GID /home/$USERNAME; \
    fi
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && export DEBIAN_FRONTEND=noninteractive \
    && apt-get -y install --no-install-recommends postgresql-client redis-tools
USER $USERNAME
ENV HOME=/home/$USERNAME
RUN <<EOT bash
  set -euo pipefail
  mkdir -p ~/.local/bin ~/.cache
  for tool in fd rg; do
    ln -s /usr/bin/\$tool ~/.local/bin/\$tool || true
  done
  echo "for $USERNAME" > ~/.welcome
EOT
RUN --mount=type=secret,id=dotfiles,required=false,uid=${USER_UID} [ ! -s /run/secrets/dotfiles ] || tar -xf /run/secrets/dotfiles -C ~
WORKDIR /workspaces
CMD [ "sleep", "infinity" ]
