# `make sweep` and `make test` set up .venv and do the rest; nothing else needs to be installed by hand.
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: sweep test test-cluster test-long lint types unit system bench clean

sweep: $(READY)  ## run the main job: does L2 help an MLP on MNIST?
	$(PYTHON) sweeps/mnist_l2.py $(ARGS)

test: lint types unit  ## lint, types and the whole test suite

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)
	$(VENV)/bin/mypy

# Three files at a time: most of a test of faults is waiting for processes and clocks.
unit: $(READY) system
	$(PYTHON) -m pytest -n 3 --dist loadfile $(ARGS)

test-cluster: $(READY) system  ## `ray up` on machines made of namespaces: needs root; six minutes
	$(PYTHON) -m pytest -s -m "cluster and not long" tests/cluster $(ARGS)

test-long: $(READY) system  ## the long set: 200 kills, 5,000 trials; about an hour
	$(PYTHON) -m pytest -m long $(ARGS)

system:  ## what the tests need of the system: Chromium for report.html, sshd and others for tests/cluster
	@sh scripts/system-packages.sh

# constraints.txt holds the versions that were tested; pyproject.toml the ranges that should work.
$(READY): pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

bench: $(READY)  ## this project and its peers on the same search, n = 5: hours; ARGS='--only expert ours --repeats 1'
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' || echo "without Syne Tune"
	$(PYTHON) benchmarks/peers.py $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
