# Works on a machine that has nothing but make and a Python >= 3.11:
#
#   make demo                       a workflow that survives kill -9, on a Postgres of its own
#   make test                       the test suite; make test ARGS="tests/unit -x"
#   make test PYTHON=python3.12     the same on another interpreter, in a virtual environment of its own
#   make lint / make format         ruff, mypy, import contracts / let ruff rewrite the code
#   make env                        only the virtual environment

PYTHON ?=
ARGS ?=
# Test processes; each one that crashes dispatchers starts some of its own.
WORKERS ?= auto

# 0 if it is new enough and can make virtual environments (Debian splits that off into python3-venv).
GOOD := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

# Without PYTHON the environment is .venv, whatever it was made with; each PYTHON has its own, .venv-3.12 and so on.
ifeq ($(strip $(PYTHON)),)
VENV := .venv
else
VENV := .venv-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo unknown)
endif

BIN := $(VENV)/bin
STAMP := $(VENV)/.continuum-installed

.PHONY: demo test lint format env clean

demo: env
	$(BIN)/continuum demo $(ARGS)

test: env
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 $(ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .

# The stamp names the checkout and holds the pyproject.toml that was installed; an environment that was copied here,
# or whose interpreter has gone, is made again.
env:
	@set -e; \
	if [ -f "$(STAMP)" ] && { pwd; cat pyproject.toml; } | cmp -s - "$(STAMP)" && $(BIN)/python -c '$(GOOD)' 2>/dev/null; then \
		exit 0; \
	fi; \
	if ! $(BIN)/python -c '$(GOOD)' 2>/dev/null || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		found=; \
		for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
			if "$$candidate" -c '$(GOOD)' 2>/dev/null; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "make: found no Python >= 3.11 with the venv module$(if $(PYTHON), at PYTHON=$(PYTHON))." >&2; \
			echo "make: install one (on Debian and Ubuntu also python3-venv), or say PYTHON=/path/to/python3.12." >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$("$$found" -V) ..."; \
		"$$found" -m venv --clear "$(VENV)"; \
	fi; \
	echo "Installing Continuum and its development tools into $(VENV) ..."; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; \
	{ pwd; cat pyproject.toml; } >"$(STAMP)"

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
