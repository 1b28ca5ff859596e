PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## virtual environment, Java and Delta's jars, whatever is missing
	@scripts/setup.sh

lock: ## compile requirements.txt from requirements.in
	$(BIN)/uv pip compile --python-version 3.11 requirements.in -o requirements.txt --no-emit-index-url --no-emit-find-links
