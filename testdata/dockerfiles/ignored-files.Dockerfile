FROM busybox:1.36
WORKDIR /all
COPY . .
COPY docs /docs
COPY src/*.c src/lib /flat/
