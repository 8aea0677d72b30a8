target "default" {
  contexts = { base = "target:base", src = "./src", "docker.io/library/debian" = "docker-image://busybox" }
}
target "base" {
  entitlements = ["security.insecure"]
  contexts     = { deeper = "target:deeper" }
}
target "deeper" {}
