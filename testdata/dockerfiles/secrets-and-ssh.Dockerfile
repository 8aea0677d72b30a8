# syntax=docker/dockerfile:1
FROM alpine AS fetch
RUN apk add git openssh-client
# TOKEN_FILE where the registry's token is read from
ARG TOKEN_FILE=/run/secrets/npm
RUN --mount=type=secret,id=npm,required \
    --mount=type=secret,id=api,env=API_TOKEN \
    --mount=type=ssh \
    git clone git@example.com:team/private.git /src && TOKEN=$(cat $TOKEN_FILE) ./fetch
RUN --network=none --mount=type=tmpfs,target=/tmp,size=64m ./verify
