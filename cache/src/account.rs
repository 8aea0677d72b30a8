//! Users and groups of an image, read from its own files.
