"""Keeping the tables: small files brought together, old days dropped, files that nothing needs any more removed."""
