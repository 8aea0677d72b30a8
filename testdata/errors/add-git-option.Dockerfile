FROM a
ADD https://example.com/a.git#--upload-pack=x /b
