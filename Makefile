# Everything a newcomer or CI runs. Needs only make and Python 3.11 or newer; nothing is installed outside this folder.
# Kept to what GNU make 3.81 (macOS) and a POSIX shell understand.

.DEFAULT_GOAL := help
.PHONY: help run run-kafka test bench check screenshots pins clean
# Two pips must never write to one environment at once, so `make -j` changes nothing here.
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := domain projections detector audit infra api sessiontrail

# Stamps: each says that one step is done, and is redone when what it was made from is newer.
ENV_READY := $(VENV)/.ready-env
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev
APP_READY := $(VENV)/.ready-app

# Wheels only: building a source package would download its unpinned build tools.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PINNED := --require-hashes --only-binary :all: -r

UV := $(BIN)/uv
UV_COMPILE := UV_CUSTOM_COMPILE_COMMAND='make pins' $(UV) pip compile --quiet \
	--universal --python-version 3.11 --generate-hashes $(PINS_ARGS) pyproject.toml --group build

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' Makefile

run: $(RUN_READY) $(APP_READY) ## Set up if needed, then serve on HOST:PORT (default 127.0.0.1:8000)
	@exec $(BIN)/sessiontrail serve

run-kafka: $(RUN_READY) $(APP_READY) ## The same with a Kafka broker of its own (needs Java 17 and, once, Maven)
	@exec $(BIN)/sessiontrail kafka run

test: $(DEV_READY) $(APP_READY) ## Run every test; PYTEST_ARGS='-k login -x' narrows it
	$(BIN)/pytest --numprocesses=2 --dist=loadfile $(PYTEST_ARGS)

bench: $(DEV_READY) $(APP_READY) ## Measure, print a table, write bench/out/latest.json
	$(BIN)/python -m bench

check: $(DEV_READY) $(APP_READY) ## Lint, formatting, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

screenshots: $(DEV_READY) $(APP_READY) ## Take pictures of every page of the console into build/screenshots
	$(BIN)/python -m tests.screenshots

pins: $(DEV_READY) ## Re-pin requirements/*.txt from pyproject.toml; PINS_ARGS=--upgrade takes the newest
	$(UV_COMPILE) --output-file requirements/run.txt
	$(UV_COMPILE) --group dev --extra export --extra redis --constraint requirements/run.txt --output-file requirements/dev.txt

clean: ## Remove the environment, caches and builds; the data in .sessiontrail stays
	rm -rf $(VENV) build dist *.egg-info bench/out
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The newest Python that can make an environment. A candidate is run, not only looked up: version managers leave
# names on the PATH that do nothing. PYTHON=/path/to/python chooses one by hand.
$(ENV_READY):
	@found=; bare=; \
	for candidate in $${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do \
		version=`"$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2]) if sys.version_info >= (3, 11) else sys.exit(1)' 2>/dev/null` || continue; \
		if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then found=$$candidate; break; fi; \
		bare=$${bare:-$$version}; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
		echo "Python $$bare cannot make a virtual environment (no venv or ensurepip): apt install python$$bare-venv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
		echo "Python 3.11 or newer is needed and was not found: apt install python3 python3-venv, or brew install python" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$found"; \
	"$$found" -m venv --clear $(VENV)
	@touch $@

$(RUN_READY): requirements/run.txt $(ENV_READY)
	@echo "Installing requirements/run.txt (hash-pinned)"
	@$(PIP_INSTALL) $(PINNED) requirements/run.txt
	@touch $@

# dev.txt holds run.txt at the same versions, so both are done.
$(DEV_READY): requirements/dev.txt requirements/run.txt $(ENV_READY)
	@echo "Installing requirements/dev.txt (hash-pinned)"
	@$(PIP_INSTALL) $(PINNED) requirements/dev.txt
	@touch $(RUN_READY) $@

# Editable, from this folder, without any download. Redone when a top-level package appears.
$(APP_READY): pyproject.toml $(wildcard $(PACKAGES:=/__init__.py)) $(RUN_READY)
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
