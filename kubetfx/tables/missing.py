"""What stands for a missing cell in a CSV file, quoted or not, unless something else is said."""

MISSING_VALUES = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")
