# `make demo` and `make test` each work alone, from a clean clone. They need only Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test test-slow test-checkpoints test-floors lint checkpoints benchmark benchmark-rivals clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/srsoup demo

test: setup
	$(BIN)/python -m pytest -m "not slow and not checkpoints" -n auto --dist worksteal

test-slow: setup
	$(BIN)/python -m pytest -m slow -n auto

test-checkpoints: setup
	$(BIN)/python -m pytest -m checkpoints -n auto

# The tests with the lowest versions that pyproject.toml allows. It downloads several gigabytes.
test-floors:
	$(PYTHON) -m venv build/floors
	build/floors/bin/python -m pip install --quiet --disable-pip-version-check --constraint floors.txt --editable '.[dev]'
	build/floors/bin/python -m pytest -m "not slow and not checkpoints" -n auto --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Train the builtin checkpoints from nothing. It needs Debian's fonts-noto-color-emoji and many hours on two cores.
checkpoints: setup
	$(BIN)/python -m checkpoints.recipe --workdir build/recipe

# Make every number in README and docs but those of benchmark-rivals. It takes hours on two cores. It can be stopped:
# finished rows are not made again. The last command needs Debian's chromium and chromium-driver.
benchmark: setup
	$(BIN)/python -m benchmarks.query_efficiency
	$(BIN)/python -m benchmarks.query_efficiency_report
	$(BIN)/python -m benchmarks.query_efficiency --out benchmarks/results/mixed_seeds --settings '["two rewards"]' --methods '["WeightedSum, N = 16"]' --seeds '[1]' --dtype float32
	$(BIN)/python -m benchmarks.mixed_seeds
	$(BIN)/python -m benchmarks.options --dtype float32
	$(BIN)/python -m benchmarks.options --settings '["three rewards"]' --options '["N = 6", "N = 6, power: 4"]' --dtype float32
	$(BIN)/python -m benchmarks.query_efficiency_report --results benchmarks/results/options --figure null --baselines '[Auto, "N = 6"]'
	$(BIN)/python -m benchmarks.closeness
	$(BIN)/python -m benchmarks.closeness_report
	$(BIN)/python -m benchmarks.one_step --dtype float32
	$(BIN)/python -m benchmarks.one_step_report
	$(BIN)/python -m benchmarks.finetuning
	$(BIN)/python -m benchmarks.finetuning_report
	$(BIN)/python -m benchmarks.flows
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.fit_overhead
	$(BIN)/python -m benchmarks.adapters
	$(BIN)/python -m benchmarks.adapters_report
	$(BIN)/python -m benchmarks.rewards
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.model_table
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.charts measure
	$(BIN)/python -m benchmarks.gallery measure

# All methods at equal cost. It takes days on two cores, and can be stopped too.
benchmark-rivals: setup
	$(BIN)/python -m benchmarks.rivals_search
	$(BIN)/python -m benchmarks.rivals
	$(BIN)/python -m benchmarks.rivals --settings '["two rewards"]' --nfe '[6800]' --queries '[]' --seeds '[0]' --methods '["Fast with a pool of 64", "Fast with a pool of 64, without resampling", WeightedSum]'
	$(BIN)/python -m benchmarks.rivals_seconds
	$(BIN)/python -m benchmarks.rivals_report
	$(BIN)/python -m benchmarks.rivals_pictures
	$(BIN)/python -m benchmarks.one_reward

clean:
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache
