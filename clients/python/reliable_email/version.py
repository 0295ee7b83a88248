"""The version of this package, which is that of the service."""

version = "0.1.0"
