"""Files of rows in each format, read record by record: CSV, TSV, JSON, Parquet, Arrow, .gz."""
