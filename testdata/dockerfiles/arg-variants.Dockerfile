ARG VARIANT=full
ARG BASE_VERSION=1.36

FROM busybox:${BASE_VERSION} AS common
ARG WHO="two words"
ARG EMPTY=
ENV GREETING="hello ${WHO}" FALLBACK=${EMPTY:-nothing} KEPT=${EMPTY:+unused} MARK=${WHO:+set} ESCAPED=\$WHO
RUN echo "$GREETING/$FALLBACK/$KEPT/$MARK/$ESCAPED" > /values

FROM common AS variant-full
ARG BASE_VERSION
RUN echo "full on $BASE_VERSION" > /variant
FROM common AS variant-small
RUN echo small > /variant

FROM variant-$VARIANT
ARG VARIANT
LABEL variant=$VARIANT greeting="$GREETING" \
      "spaced key"="a 'quoted' \"value\""
ENV PATH=$PATH:/opt/$VARIANT/bin
WORKDIR /opt/$VARIANT/bin
COPY . ${FALLBACK}/
VOLUME ["/data/$VARIANT"]
EXPOSE 80 53/udp 9000-9002
CMD echo $GREETING
