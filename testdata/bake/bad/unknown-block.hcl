targt "default" {}
