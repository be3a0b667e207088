"""The version of mtcl, which the files that it writes contain."""

__version__ = "0.1.0"
