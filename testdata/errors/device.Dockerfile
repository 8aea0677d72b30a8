FROM a
RUN --device=vendor.com/gpu=0 y
