"""foreshard forecasts the load on every shard and has data, capacity and routing in place before that load arrives."""

__version__ = "0.1.0"
