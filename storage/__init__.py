"""Rows and objects: schemas, atomic Parquet writes, and the queries that a notebook imports."""
