target "default" { inherits = ["b"] }
target "b" { inherits = ["c"] }
target "c" { inherits = ["default"] }
