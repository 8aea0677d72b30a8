#syntax=docker/dockerfile:1
FROM php:8.3-fpm-alpine AS base
RUN set -eux; \
    apk add --no-cache --virtual .build $PHPIZE_DEPS icu-dev libzip-dev postgresql-dev; \
    docker-php-ext-configure zip; \
    docker-php-ext-install -j$(nproc) intl opcache pdo_pgsql zip; \
    pecl install apcu-5.1.24; \
    docker-php-ext-enable apcu; \
    runDeps="$( \
        scanelf --needed --nobanner --format '%n#p' --recursive /usr/local/lib/php/extensions \
            | tr ',' '\n' | sort -u | awk 'system("[ -e /usr/local/lib/" $1 " ]") == 0 { next } { print "so:" $1 }' \
    )"; \
    apk add --no-cache --virtual .run $runDeps; \
    apk del .build
COPY --link docker/php/conf.d/*.ini $PHP_INI_DIR/conf.d/
COPY --link --chmod=755 docker/php/entrypoint.sh /usr/local/bin/entrypoint
WORKDIR /srv/app
ENTRYPOINT ["entrypoint"]
CMD ["php-fpm"]

FROM base AS dev
ENV APP_ENV=dev XDEBUG_MODE=off
VOLUME /srv/app/var/
RUN mv "$PHP_INI_DIR/php.ini-development" "$PHP_INI_DIR/php.ini"

FROM composer:2 AS vendor
WORKDIR /app
COPY composer.json composer.lock symfony.lock ./
RUN --mount=type=cache,target=/tmp/cache \
    --mount=type=secret,id=composer_auth,target=/tmp/auth.json \
    COMPOSER_AUTH="$(cat /tmp/auth.json)" composer install --no-dev --no-scripts --no-autoloader --prefer-dist

FROM base AS prod
ENV APP_ENV=prod
RUN mv "$PHP_INI_DIR/php.ini-production" "$PHP_INI_DIR/php.ini"
COPY --link . ./
COPY --link --from=vendor /app/vendor vendor
COPY --from=composer:2 /usr/bin/composer /usr/local/bin/
RUN composer dump-autoload --classmap-authoritative --no-dev \
 && chown -R www-data:www-data var
USER www-data
