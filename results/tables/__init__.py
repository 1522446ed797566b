"""Parquet tables of a run, and SQL over them."""
