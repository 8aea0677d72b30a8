variable "PORT" {
  default = 0
  validation {
    condition     = PORT > 0
    error_message = "PORT must be positive"
  }
}
target "default" {}
