# `make sweep` and `make test` install what they need into .venv, and do the rest; a sweep needs less than the tests.
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
READY_SWEEP := $(VENV)/.ready-sweep
PIP := pip install --quiet --disable-pip-version-check
ROUNDS := 3

.PHONY: sweep test test-busy test-cluster test-long test-versions test-lowest test-newest wheel docs lint types unit \
	ready system bench calibrate clean

sweep: $(READY_SWEEP)  ## run the main job: does L2 help an MLP on MNIST?
	$(PYTHON) sweeps/mnist_l2.py $(ARGS)

test: lint types unit  ## lint, types and the whole test suite

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)
	$(VENV)/bin/mypy

# Three files at a time, in the order of tests/conftest.py: a test of faults waits for processes and clocks.
SUITE = $(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

unit: $(READY) system
	$(SUITE) $(ARGS)

test-busy: $(READY) system  ## the suite three times in a row (ROUNDS=1: once) while others take all of two cores
	@sh scripts/system-packages.sh stress-ng
	sh scripts/busy.sh $(ROUNDS) $(SUITE) $(ARGS)

test-cluster: $(READY) system  ## `ray up` on machines made of namespaces: needs root; two minutes
	@sh scripts/system-packages.sh slurmctld slurmd
	$(PYTHON) -m pytest -n 2 --dist worksteal -rP -m "cluster and not long" tests/cluster $(ARGS)

test-long: $(READY) system  ## the long set: 200 kills, 5,000 trials; about an hour
	@sh scripts/system-packages.sh slurmctld slurmd
	$(PYTHON) -m pytest -m long $(ARGS)

test-versions: test-lowest test-newest  ## main job and tests with the lowest and the newest versions of dependencies

# A virtual environment of 7 GB, made anew each time and removed when all has passed. Warnings are not errors here.
test-lowest test-newest: test-%: system
	rm -rf $(VENV)-$*
	python3 -m venv $(VENV)-$*
	python3 scripts/versions.py $* > $(VENV)-$*/requirements.txt
	$(VENV)-$*/bin/python -m $(PIP) -r $(VENV)-$*/requirements.txt
	$(VENV)-$*/bin/python -m $(PIP) --no-deps -e .
	$(VENV)-$*/bin/python sweeps/mnist_l2.py --trials 2 --searches 1 --epochs 1 --confirm-configs 1 --confirm-seeds 1 --out $(VENV)-$*/runs
	$(VENV)-$*/bin/python -m pytest -n 4 --dist loadfile -o filterwarnings= \
		tests/engine tests/trainable tests/results tests/faults/test_mlflow_server.py $(ARGS)
	rm -rf $(VENV)-$*

wheel: $(READY_SWEEP)  ## dist/rungwise-VERSION-py3-none-any.whl
	rm -rf build  # setuptools would add its files to the wheel
	$(PYTHON) -m $(subst install,wheel,$(PIP)) --no-deps --wheel-dir dist .
	rm -rf build rungwise.egg-info

docs: $(READY)  ## the documentation site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

ready: $(READY)  ## what developers need, in .venv; `make sweep` installs what a sweep needs

system:  ## what the tests need of the system: Chromium for report.html, tmux, sshd and others for tests/cluster
	@sh scripts/system-packages.sh

$(READY_SWEEP): pyproject.toml constraints.txt
	python3 scripts/install.py $(VENV) sweep
	touch $@

$(READY): pyproject.toml constraints.txt
	python3 scripts/install.py $(VENV) dev
	touch $@ $(READY_SWEEP)

calibrate: $(READY)  ## how often an answer errs: 4,000 synthetic sweeps, and simulated ones of two identical arms
	$(PYTHON) benchmarks/calibrate.py $(ARGS)
	$(PYTHON) benchmarks/simulate.py --aa 200 --pairs 40

bench: $(READY)  ## this project and its peers on the same search, n = 5: hours; ARGS='--only expert ours --repeats 1'
	$(PYTHON) -m $(PIP) -c constraints.txt -e '.[bench]' || echo "without Syne Tune"
	$(PYTHON) benchmarks/peers.py $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest dist site .mypy_cache .ruff_cache .pytest_cache
