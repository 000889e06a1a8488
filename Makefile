# Two commands for a fresh machine: `make demo` and `make test`. Both make .venv first, once.

PYTHON ?= python3
PIP := .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt
RUN := .venv/bin/python -m dbp
DATA ?= data
export MPLBACKEND := agg

.PHONY: $(shell sed -nE 's/^([a-z-]+):.*## .*/\1/p' Makefile)

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 18

.venv/installed: pyproject.toml setup.py constraints.txt $(wildcard dbp/native/src/*)
	$(PYTHON) -m venv .venv
	$(PIP) -q -e '.[dev]'
	@touch $@

demo: .venv/installed  ## train a discrete autoencoder on real digits, test it, and draw what it does
	rm -rf lightning_logs/demo
	$(RUN) fit --config dvae/digits run=demo
	$(RUN) test run=demo ckpt_path=best

test: lint  ## lint, type check, every test, and the kernels under sanitizers
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist worksteal
	$(MAKE) -j2 sanitize
	@$(MAKE) --no-print-directory test-slurm

test-slurm: .venv/installed  ## jobs that a real SLURM interrupts, on this machine; needs Debian's packages, installs none
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/slurm/requeue.py

TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
LOWEST := build/lowest/bin/python
# What each package is for: components by name, runs, pictures, data files, solvers of SciPy and joblib. Types need the newest.
LOWEST_TESTS := tests/config/test_cli.py tests/core tests/data tests/gallery tests/runs/test_resume.py \
  tests/solvers/test_function.py tests/solvers/test_graph_matchings.py tests/solvers/test_programs.py tests/tasks

build/lowest/installed: pyproject.toml setup.py .ci/lowest.py
	$(PYTHON) -m venv build/lowest
	$(PYTHON) .ci/lowest.py $(TORCH:%=torch=%) > build/lowest.txt
	$(LOWEST) -m pip install --disable-pip-version-check -q -c build/lowest.txt -e '.[dev]'
	@touch $@

test-lowest: build/lowest/installed  ## tests with the lowest versions of what dbp needs; TORCH= for torch's, too
	OMP_NUM_THREADS=1 $(LOWEST) -m pytest -o filterwarnings= --ignore tests/core/test_types.py $(LOWEST_TESTS)

dist: .venv/installed  ## the sdist and two wheels, with kernels for this machine and without for any, in dist/
	$(PIP) -q build
	rm -rf dist
	.venv/bin/python -m build -q
	DBP_NATIVE=0 .venv/bin/python -m build -q --wheel

fuzz: .venv/installed  ## mutated command lines, configurations, data, checkpoints (1,000 each); solvers (10,000)
	DBP_FUZZ=1000 .venv/bin/python -m pytest tests/config/test_fuzz.py tests/fuzz --hypothesis-show-statistics

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.DELETE_ON_ERROR:
CXX ?= c++
SANITIZERS := address,undefined thread

sanitize: $(SANITIZERS:%=build/sanitize-%)  ## the kernels under the sanitizers for addresses, undefined behaviour and threads

build/sanitize-%: tests/native/sanitize.cpp $(wildcard dbp/native/src/*)
	@mkdir -p build
	@if echo 'int main() {}' | $(CXX) -fsanitize=$* -x c++ -o $@.probe - 2> /dev/null && $@.probe; then \
	  $(CXX) -std=c++17 -O1 -g1 -march=native -ffp-contract=off -fno-strict-aliasing -pthread -Wno-psabi -fsanitize=$* \
	    -fno-sanitize-recover=all -o $@ $(filter %.cpp,$^) && $@; \
	else echo "sanitize: $(CXX) has no -fsanitize=$*: skipped"; fi

torture: .venv/installed  ## kill 200 runs at random moments, and compare what becomes of them
	OMP_NUM_THREADS=1 .venv/bin/python tests/torture.py --kills 200

bench-solvers: .venv/installed  ## every solver against what people use today, into benchmarks/results.md
	$(PIP) -q -e '.[dev,bench]'
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.solvers

bench-estimators: .venv/installed  ## steps of estimators against other projects' code, into benchmarks/estimators.md
	$(PIP) -q -e '.[dev,bench]'
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.estimators

bench-check: .venv/installed  ## both, as a gate at half of the ratios that are aimed at
	$(PIP) -q -e '.[dev,bench]'
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.solvers --check
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.estimators --check

audit: .venv/installed  ## how good each estimator's gradient is, on a top-k choice
	$(RUN) audit solver=top_k solver.k=3 n=8 noise=gumbel

bench: .venv/installed  ## the training loop against a hand-written one, on MNIST (DATA=FOLDER if you have it)
	.venv/bin/python -m benchmarks.training data.root=$(DATA)

results: .venv/installed  ## the numbers of docs/results.md: six runs of five epochs on MNIST; DATA=FOLDER if you have it
	for config in identity imle; do for seed in 0 1 2; do \
	  run="run=results-$$config-$$seed data.root=$(DATA)"; \
	  $(RUN) fit --config dvae/$$config $$run seed=$$seed trainer.max_epochs=5 ckpt_path=last && \
	  $(RUN) test run=results-$$config-$$seed ckpt_path=last || exit; \
	done; done

results-vae: .venv/installed  ## seventeen estimators on one variational autoencoder: 20 epochs on MNIST each; DATA=FOLDER
	.venv/bin/python -m benchmarks.vae data.root=$(DATA)

results-sorting: .venv/installed  ## sorting five numbers through a hard layer, by two models, against smooth layers
	for model in dense lstm; do for layer in dab: straight:estimator=straight_through tanh:task.soft=tanh elu:task.soft=elu; do \
	  run="run=sorting-$$model-$${layer%%:*}"; \
	  $(RUN) fit --config sorting/$$model $$run $${layer#*:} ckpt_path=last && \
	  $(RUN) test $$run ckpt_path=last || exit; \
	done; done

pictures: .venv/installed  ## the pictures of docs/solvers.md
	for name in $$($(RUN) list solver | sed -n 's/^  \([a-z_]*\) .*built in.*/\1/p'); do \
	  $(RUN) plot solver $$name output=docs/images/solvers/$$name.png || exit; \
	done

clean:  ## remove the environment and what the demo made
	rm -rf .venv lightning_logs/demo
