"""The one reader of tables: which files a path means, how their cells are read, and rows that are in memory already.

    files.py         which files a path means, and of which format each is
    csv_dialect.py   how one CSV file is written, and its bytes as UTF-8
    csv_options.py   what the user says about CSV files
    csv_detection.py what nobody says, found by looking
    csv_file.py      a CSV file as a stream of Arrow's blocks, and what is wrong with one, in words
    parquet_file.py  the same for Parquet
    csv_rows.py      where the rows of a CSV file end
    blocks.py        a file cut into blocks that are read by themselves, for workers that share it
    memory.py        JSON, dicts, pandas and Arrow

Everybody who reads a table reads it here: ExampleGen, predict, batch-predict, and lists of images. What columns are for
is the caller's to know.
"""
