"""The command line, one file per group of commands; `foreshard.cli` puts them together."""
