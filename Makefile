# Two commands are the whole set-up: `make fuzz` runs the main job, `make test` the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?= 300
ARGS ?=

.PHONY: fuzz test test-long lint clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mcpconc needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# Finding violations is what fuzzing is for (exit 1), and so is running out of
# budget on a verdict (2): only an unusable target, bad usage or our own bug fail here.
fuzz: $(VENV)/.ready
	@$(BIN)/mcpconc fuzz --max-time $(SECONDS) --out out $(ARGS); code=$$?; \
	  if [ $$code -gt 2 ]; then exit $$code; fi

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -m "not long" $(ARGS)

test-long: $(VENV)/.ready lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out dist
