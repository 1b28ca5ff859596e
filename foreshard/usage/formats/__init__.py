"""How landing files are read: one module a format, each a pure function from a file's bytes to Arrow batches."""
