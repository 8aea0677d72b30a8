target "default" {
  tag = ["a"]
}
