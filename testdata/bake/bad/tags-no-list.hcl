target "default" {
  tags = "one"
}
