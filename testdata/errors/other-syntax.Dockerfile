# syntax=example.com/other/frontend:1
FROM a
