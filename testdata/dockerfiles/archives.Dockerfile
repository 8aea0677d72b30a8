FROM busybox:1.36
ADD plain.tar /plain/
ADD packed.tar.gz packed.tar.xz /packed/
ADD --chown=7:8 packed.tar.bz2 /owned/
COPY packed.tar.gz /kept/
ADD not-a-tar.gz /kept/
RUN find /plain /packed /owned /kept | sort > /found
