FROM a AS Build
FROM Build
