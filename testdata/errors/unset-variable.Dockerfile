FROM a
ENV A=${B:?missing}
