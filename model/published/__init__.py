"""Published weights: a table of what can be named, and strict loading of their layouts from local files."""

from model.published.loading import LoadReport, load_named, load_published
from model.published.table import PUBLISHED, PublishedWeights, published_named

__all__ = [
    "PUBLISHED",
    "LoadReport",
    "PublishedWeights",
    "load_named",
    "load_published",
    "published_named",
]
