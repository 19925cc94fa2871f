"""The version of the package. The package metadata and the pages read it here; a test compares CITATION.cff."""

__version__ = "0.1.0"
