# Groups, inheritance and what merges how.
group "default" {
  description = "what is released"
  targets     = ["app", "tools"]
}

group "tools" {
  targets = ["lint", "docs"]
}

target "_base" {
  description = "shared"
  context     = "."
  args        = { GO = "1.23", DEBUG = null }
  labels      = { "org.example.kind" = "x", "price" = "$${x}" }
  tags        = ["base:dev"]
  cache-from  = ["type=registry,ref=example.com/cache", "example.com/a,example.com/b"]
  secret      = ["id=token,env=TOKEN"]
  platforms   = ["linux/amd64"]
  pull        = true
}

target "app" {
  inherits = ["_base"]
  args     = { GO = "1.24" }
  tags     = ["example.com/app:1", "example.com/app:1", "example.com/app:latest"]
  secret   = [{ id = "token", env = "TOKEN" }, { id = "file", src = "./f" }]
  output   = ["type=oci,dest=out.tar", { type = "local", dest = "out" }]
  attest   = ["type=provenance,mode=min", "type=provenance,mode=max", { type = "sbom", disabled = true }]
  ssh      = ["default", { id = "key", paths = ["/a", "/b"] }]
  ulimits  = ["nofile=1024:2048"]
  shm-size = "64m"
  extra-hosts = { db = "10.0.0.1" }
  annotations = ["a=b"]
}

target "lint" {
  inherits          = ["_base"]
  target            = "lint"
  call              = "check"
  no-cache          = true
  no-cache-filter   = ["deps"]
  dockerfile-inline = <<-EOT
    FROM scratch
    COPY . /
  EOT
}

target "docs" {
  context    = "docs"
  dockerfile = "Dockerfile.docs"
  network    = "host"
}
