variable "VERSIONS" {
  type    = list(string)
  default = ["1.2", "2.0"]
}

function "tag" {
  params          = [name, version]
  variadic_params = extra
  result          = concat(["${name}:${version}"], [for e in extra : format("%s:%s-%s", name, version, e)])
}

registry = "example.com/team"

group "default" {
  targets = ["app", "all-in-one"]
}

target "app" {
  name   = "app-${replace(version, ".", "-")}-${item.os}"
  matrix = {
    version = VERSIONS
    item    = [{ os = "linux", slim = false }, { os = "alpine", slim = true }]
  }
  args     = { VERSION = version, SLIM = item.slim }
  tags     = tag("${registry}/app", version, item.os)
  contexts = { base = "target:base" }
}

target "base" {
  dockerfile = "base.Dockerfile"
  tags       = [for t in target.all-in-one.tags : "${t}-base"]
}

target "all-in-one" {
  tags     = ["all:${length(VERSIONS)}"]
}
