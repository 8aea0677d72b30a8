variable "TAG" {
  default     = "dev"
  description = "the tag"
}
variable "FULL" {
  default = "app:${TAG}"
}
variable "RELEASE" {
  default = false
}
variable "COUNT" {
  default = 3
  validation {
    condition     = COUNT > 0 && COUNT < 10
    error_message = "COUNT must be from 1 to 9, not ${COUNT}"
  }
}
variable "EMPTY" {}
variable "NUMBERS" {
  type    = list(number)
  default = [1, 2]
}
variable "OPTIONS" {
  type    = object({ debug = bool, level = optional(number) })
  default = { debug = true }
}
target "default" {
  tags = compact([FULL, RELEASE ? "app:latest" : ""])
  args = {
    COUNT    = COUNT + 1
    EMPTY    = EMPTY == "" ? "unset" : EMPTY
    SUM      = NUMBERS[0] + NUMBERS[1]
    DEBUG    = OPTIONS.debug
    PLATFORM = BAKE_LOCAL_PLATFORM == "" ? "none" : "known"
    CONTEXT  = BAKE_CMD_CONTEXT
  }
}
