from ubuntu:24.04
maintainer Someone <someone@example.com>
env HOME /root
env NAME=value OTHER="two words" THIRD=a\ b
label version 1.0
run apt-get update && \
    apt-get install -y curl

expose 80/TCP
user daemon:daemon
workdir work
cmd curl http://localhost
