FROM perl:5.36-slim AS report
COPY --chmod=0555 report.pl /usr/local/bin/report
COPY data/ /data/
RUN report /data/*.csv > /report.txt \
 && perl -ne 'print if /total/' /report.txt > /total.txt

FROM busybox:1.36
COPY --from=report /report.txt /total.txt /reports/
WORKDIR reports
WORKDIR ./archive
WORKDIR ../current
ENTRYPOINT cat /reports/report.txt
