FROM maven:3-eclipse-temurin-21 AS build
WORKDIR /build
COPY pom.xml .
RUN mvn -B dependency:go-offline
COPY src ./src
RUN mvn -B package -DskipTests && \
    # layers are extracted for better caching
    java -Djarmode=layertools -jar target/app.jar extract --destination /layers

FROM eclipse-temurin:21-jre
ARG UID=10001
RUN groupadd -g ${UID} app && useradd -u ${UID} -g app app
USER app
WORKDIR /app
COPY --from=build /layers/dependencies/ ./
COPY --from=build /layers/application/ ./
EXPOSE 8080 9000-9002/tcp
ENTRYPOINT ["java", "org.springframework.boot.loader.launch.JarLauncher"]
