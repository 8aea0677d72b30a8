ARG DOTNET=9.0
FROM --platform=$BUILDPLATFORM mcr.microsoft.com/dotnet/sdk:${DOTNET}-bookworm-slim AS build
ARG TARGETARCH
ARG CONFIGURATION=Release
WORKDIR /source
COPY Directory.Build.props Directory.Packages.props nuget.config *.sln ./
COPY src/Api/*.csproj src/Api/
COPY src/Domain/*.csproj src/Domain/
RUN --mount=type=cache,id=nuget,target=/root/.nuget/packages dotnet restore src/Api -a $TARGETARCH
COPY src/ src/
RUN --mount=type=cache,id=nuget,target=/root/.nuget/packages \
    dotnet publish src/Api --no-restore -a $TARGETARCH -c $CONFIGURATION -o /app

FROM build AS test
COPY tests/ tests/
ENTRYPOINT ["dotnet", "test", "--logger:trx", "--results-directory", "/results"]

FROM mcr.microsoft.com/dotnet/aspnet:${DOTNET}-noble-chiseled AS final
WORKDIR /app
COPY --from=build /app .
USER $APP_UID
ENV ASPNETCORE_HTTP_PORTS=8080 DOTNET_EnableDiagnostics=0
EXPOSE 8080
ENTRYPOINT ["./Api"]
