.DEFAULT_GOAL := help
.PHONY: help setup servers demo airflow data-docs benchmark-forecast benchmark-placement benchmark-transition benchmark-routing replay test soak test-fast test-spark test-live lint format lock clean

BIN := .venv/bin
DEMO := var/demo
PYTEST := $(BIN)/python -m pytest

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: ## virtual environment, Java and Delta's jars: whatever is missing
	@scripts/setup.sh

demo: setup ## the whole loop on a real log; a second run goes on from what is there
	@$(BIN)/python -m foreshard.demo.run $(DEMO)

airflow: setup ## Airflow's own UI with all DAGs on the embedded Postgres, until Ctrl-C
	@$(BIN)/foreshard up

data-docs: setup ## the reports of all checks, as pages that need no network
	@$(BIN)/foreshard data-docs

# Paths of real data go through: make benchmark-forecast M4=m4_hourly.parquet TRACES=traces OUT=figures.json
benchmark-forecast: ## forecasts beside their rivals, on drawn series or on M4=file TRACES=folder
	@scripts/setup.sh ml stats
	@$(BIN)/python -m benchmarks.forecast $(if $(M4),--m4 $(M4)) $(if $(TRACES),--traces $(TRACES)) $(if $(OUT),--out $(OUT)) $(ARGS)

# Some of them: make benchmark-placement ARGS='--only flow,zipf'; rivals get environments of their own under var/.
benchmark-placement: setup ## plans and rankings beside rivals, bounds and exact optima, on drawn pools
	@$(BIN)/python -m benchmarks.placement $(if $(OUT),--out $(OUT)) $(ARGS)

# Larger: make benchmark-transition ARGS='--rows 5000000' OUT=figures.json; reads: READ_ARGS='--rate 80' READ_OUT=reads.json
benchmark-transition: setup ## copies and verifications beside bare Spark, and read latency while shards move, on drawn sources
	@$(BIN)/python -m benchmarks.transition $(if $(OUT),--out $(OUT)) $(ARGS)
	@$(BIN)/python -m benchmarks.read_latency $(if $(READ_OUT),--out $(READ_OUT)) $(READ_ARGS)

servers: setup ## HAProxy and etcd, which the live tests run, if they are missing
	@scripts/servers.sh

# Some of them: make benchmark-routing ARGS='--only decisions,tail' OUT=figures.json
benchmark-routing: setup ## gateways' decisions and simulated tails beside rivals and bounds
	@$(BIN)/python -m benchmarks.routing $(if $(OUT),--out $(OUT)) $(ARGS)

# Other traces: make replay TRACES=folder; some: ARGS='--only taxi-hourly'; kept: OUT=figures.json MARKDOWN=tables.md REPORT=folder
replay: setup ## what each policy costs and misses on recorded loads (TRACES=folder of trace folders)
	@$(BIN)/python -m benchmarks.replay $(if $(TRACES),--traces $(TRACES)) $(if $(OUT),--out $(OUT)) $(if $(MARKDOWN),--markdown $(MARKDOWN)) $(if $(REPORT),--report $(REPORT)) $(ARGS)

test: setup servers lint ## everything: lint, types, units, Spark, real servers
	$(PYTEST) -m "not spark and not live" -n 2
	$(PYTEST) -m "spark or live" -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup ## what needs neither Spark nor a server of its own: two minutes, the first time compiling
	@$(PYTEST) -m "not spark and not live" -n 2

soak: servers ## the property tests on new examples, many times (ROUNDS=20), then whole transitions killed (DRILLS=200 FIRST_DRILL=10), then the store's leader (KILLS=100)
	@for round in $$(seq $(or $(ROUNDS),20)); do FORESHARD_EXAMPLES=soak $(PYTEST) -m "not spark and not live" -n 2 -q || exit 1; done
	FORESHARD_DRILLS=$(or $(DRILLS),200) FORESHARD_FIRST_DRILL=$(or $(FIRST_DRILL),10) $(PYTEST) tests/live/test_crashes.py -s
	FORESHARD_KILLS=$(or $(KILLS),100) $(PYTEST) tests/live/test_replicated_store.py -s

test-spark: setup ## the tests that start a Spark session
	@$(PYTEST) -m "spark and not live"

test-live: servers ## the tests that start schedulers, clusters and gateways
	@$(PYTEST) -m live

lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## rewrite the code in the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: setup ## compile requirements.txt from requirements.in
	$(BIN)/uv pip compile --python-version 3.11 requirements.in -o requirements.txt --no-emit-index-url --no-emit-find-links

clean: ## remove the demo's data
	rm -rf $(DEMO)
