# `make check` is what has to pass. PYTHON may name the environment's interpreter.
PYTHON ?= python3
RUN = $(PYTHON) -m

.PHONY: check format lint types layers test docs soak

check: lint types layers test

lint:
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types:
	$(RUN) mypy

layers:
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as run; run()"

test:
	$(RUN) pytest

format:
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

docs:
	$(PYTHON) docs/generate.py

# The long forms of the reliability recipes: hours.
soak:
	$(RUN) pytest -m soak
