# escape=`
FROM mcr.microsoft.com/windows/servercore:ltsc2022 AS tools
SHELL ["powershell", "-NoLogo", "-Command", "$ErrorActionPreference = 'Stop';"]
ENV DIST=C:\dist `
    TOOLS="C:\Program Files\Tools"
RUN New-Item -ItemType Directory $env:DIST; `
    # comments may stand between
    Copy-Item C:\Windows\System32\curl.exe `
      $env:DIST\curl.exe
COPY ["scripts\\", "C:/scripts/"]
LABEL path="C:\dist" quoted="a `"b`""

FROM mcr.microsoft.com/windows/nanoserver:ltsc2022
COPY --from=tools C:/dist/ C:/app/
CMD ["C:\\app\\curl.exe", "--version"]
