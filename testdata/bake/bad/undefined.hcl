variable "TAG" { default = "x" }
target "default" {
  tags = ["app:${TAGS}"]
}
