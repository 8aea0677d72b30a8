# check=nonsense
FROM a
