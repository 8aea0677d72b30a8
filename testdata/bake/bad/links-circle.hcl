target "default" { contexts = { x = "target:b" } }
target "b" { contexts = { x = "target:default" } }
