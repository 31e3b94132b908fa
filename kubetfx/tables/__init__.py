"""The one reader of tables: which files a path means, how their cells are read, and rows that are in memory already.

    files.py         which files a path means, and of which format each is
    csv_dialect.py   what the bytes of a CSV file mean: delimiter, encoding, missing cells, types
    missing.py       which cells are missing
    csv_file.py      a CSV file as a stream of Arrow's blocks, and what is wrong with one, in words
    parquet_file.py  the same for Parquet
    csv_rows.py      where the rows of a CSV file end
    blocks.py        a file cut into blocks that are read by themselves, for workers that share it
    memory.py        JSON, dicts, pandas and Arrow

Everybody who reads a table reads it here: ExampleGen, predict, batch-predict, and lists of images. What columns are for
is the caller's to know.
"""
