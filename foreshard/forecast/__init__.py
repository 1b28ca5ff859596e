"""Step 2: forecasts of the load per shard, with quantiles, and of what its queries ask for."""
