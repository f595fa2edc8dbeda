"""The trained weights this project ships, and where published ones come from."""

from checkpoints.bundle import DEFAULT, Bundle, load, metric, names, save, tokenizer_id

__all__ = ["DEFAULT", "Bundle", "load", "metric", "names", "save", "tokenizer_id"]
