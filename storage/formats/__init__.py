"""Annotation formats of the field, read and written."""
