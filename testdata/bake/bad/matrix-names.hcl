target "default" {
  matrix = { x = ["a", "b"] }
}
