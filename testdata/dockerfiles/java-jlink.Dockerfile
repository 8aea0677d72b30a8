FROM gradle:8-jdk21 AS build
WORKDIR /home/gradle/project
COPY --chown=gradle:gradle settings.gradle.kts build.gradle.kts gradle.properties ./
COPY --chown=gradle:gradle gradle gradle
RUN --mount=type=cache,target=/home/gradle/.gradle,uid=1000,gid=1000 gradle --no-daemon dependencies
COPY --chown=gradle:gradle src src
RUN --mount=type=cache,target=/home/gradle/.gradle,uid=1000,gid=1000 \
    gradle --no-daemon --offline installDist

FROM eclipse-temurin:21-jdk AS jre
COPY --from=build /home/gradle/project/build/install/orders/lib /lib-in
RUN jdeps --ignore-missing-deps -q --recursive --multi-release 21 --print-module-deps \
        --class-path '/lib-in/*' /lib-in/orders.jar > /modules \
 && jlink --add-modules "$(cat /modules)" --strip-debug --no-man-pages --no-header-files --compress=2 --output /jre

FROM debian:12-slim
ENV JAVA_HOME=/opt/jre \
    LANG=C.UTF-8
ENV PATH="${JAVA_HOME}/bin:${PATH}" JAVA_OPTS="-XX:MaxRAMPercentage=75 -XX:+ExitOnOutOfMemoryError"
COPY --from=jre /jre $JAVA_HOME
COPY --from=build /home/gradle/project/build/install/orders /opt/orders
WORKDIR /opt/orders
VOLUME /opt/orders/data
EXPOSE 8080 8443 9404/tcp
CMD exec java $JAVA_OPTS -cp "lib/*" shop.orders.Main
