"""What each code of a codebook means: its look, its use, and where it occurs.

`python -m vqgan.codebook --bundle B --data DIR` builds the statistics that need a data set.
"""

from vqgan.codebook.cells import SIDE, CellStore, decode_cells, decoder_id, mosaic, split_mosaic
from vqgan.codebook.field import Field, effective_field, receptive_field
from vqgan.codebook.layout import by_hue, by_similarity, by_usage, in_rows, look
from vqgan.codebook.statistics import CONTEXT, FILE, PATCHES, SIDES, CodeStatistics
from vqgan.codebook.usage import Usage, count_codes, nearest_codes, norms

__all__ = [
    "CONTEXT",
    "FILE",
    "PATCHES",
    "SIDE",
    "SIDES",
    "CellStore",
    "CodeStatistics",
    "Field",
    "Usage",
    "by_hue",
    "by_similarity",
    "by_usage",
    "count_codes",
    "decode_cells",
    "decoder_id",
    "effective_field",
    "in_rows",
    "look",
    "mosaic",
    "nearest_codes",
    "norms",
    "receptive_field",
    "split_mosaic",
]
