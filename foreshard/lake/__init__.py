"""The Delta tables: their schemas, how they are read and written, and the Spark session that does it."""
