"""Tables of texts to tables of vectors, in shards that are written whole and never twice: Parquet and its relatives.

What reads and writes tables is pyarrow, of the extra ``arrow``. Importing monograph imports none of this.
"""
