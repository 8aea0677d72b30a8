ARG ELIXIR=1.17.3 OTP=27.1.2 DEBIAN=bookworm-20241016-slim
ARG BUILDER="hexpm/elixir:${ELIXIR}-erlang-${OTP}-debian-${DEBIAN}"
ARG RUNNER="debian:${DEBIAN}"

FROM ${BUILDER} AS builder
WORKDIR /app
RUN mix local.hex --force && mix local.rebar --force
ENV MIX_ENV="prod"
COPY mix.exs mix.lock ./
RUN mix deps.get --only $MIX_ENV
RUN mkdir config
COPY config/config.exs config/${MIX_ENV}.exs config/
RUN mix deps.compile
COPY priv priv
COPY lib lib
COPY config/runtime.exs config/
COPY rel rel
RUN mix compile && mix release

FROM ${RUNNER}
RUN apt-get update -y && \
  apt-get install -y libstdc++6 openssl libncurses5 locales ca-certificates \
  && apt-get clean && rm -f /var/lib/apt/lists/*_*
RUN sed -i '/en_US.UTF-8/s/^# //g' /etc/locale.gen && locale-gen
ENV LANG=en_US.UTF-8 LANGUAGE=en_US:en LC_ALL=en_US.UTF-8
WORKDIR "/app"
RUN chown nobody /app
COPY --from=builder --chown=nobody:root /app/_build/prod/rel/chat ./
USER nobody
ENV ECTO_IPV6=true ERL_AFLAGS="-proto_dist inet6_tcp"
CMD ["/app/bin/server"]
