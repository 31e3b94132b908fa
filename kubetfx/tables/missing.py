"""The cells of a CSV file that count as missing, quoted or not, unless the config has others."""

MISSING_VALUES = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")
