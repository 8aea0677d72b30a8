target "default" { tags = target.b.tags }
target "b" { tags = target.default.tags }
