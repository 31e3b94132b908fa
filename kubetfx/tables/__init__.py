"""The one reader of tables: which files a path means, how their cells are read, and rows that are in memory already.

    files.py           which files a path means, and of which format each is
    partitions.py      columns that folders name
    downloads.py       files behind http:// and https://
    table_file.py      what a file is, whatever its format: its columns, its rows as a stream, and as blocks
    blocks.py          files of any format, opened and cut
    columnar_table.py  Parquet, Arrow and ORC
    text_table.py      what CSV and JSON lines have in common
    json_lines.py      JSON lines
    csv_file.py        CSV, and what is wrong with a file, in words
    csv_dialect.py     how one CSV file is written, and its bytes as UTF-8
    csv_options.py     what the user says about CSV files
    csv_detection.py   what nobody says, found by looking
    csv_rows.py        where the rows of a CSV file end
    sql.py             the rows of a query
    memory.py          JSON, dicts, pandas and Arrow

All readers of tables use this package: ExampleGen, predict, batch-predict, and lists of images. Callers decide what
columns are used for.
"""
