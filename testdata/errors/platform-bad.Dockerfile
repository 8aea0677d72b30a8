FROM --platform=linux/am~d64 a
