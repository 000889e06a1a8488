# Two commands for a fresh machine: `make demo` and `make test`. Both make .venv first, once.

PYTHON ?= python3
PIP := .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt
RUN := .venv/bin/python -m dbp
DATA ?= data
export MPLBACKEND := agg

.PHONY: help demo test test-slurm lint torture fuzz audit bench bench-solvers bench-check results results-vae results-sorting clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 15

.venv/installed: pyproject.toml setup.py constraints.txt $(wildcard dbp/solvers/native/src/*)
	$(PYTHON) -m venv .venv
	$(PIP) -q -e '.[dev]'
	@touch $@

demo: .venv/installed  ## train a discrete autoencoder on real digits, test it, and draw what it does
	rm -rf lightning_logs/demo
	$(RUN) fit --config configs/dvae/digits.yaml run=demo
	$(RUN) test run=demo ckpt_path=best

test: lint  ## lint, type check, and every test
	.venv/bin/python -m pytest
	@$(MAKE) --no-print-directory test-slurm

test-slurm: .venv/installed  ## jobs that a real SLURM interrupts, on this machine; needs Debian's packages, installs none
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/slurm/requeue.py

fuzz: .venv/installed  ## a thousand each of mutated command lines, configurations, data files and checkpoints
	DBP_FUZZ=1000 .venv/bin/python -m pytest tests/test_fuzz.py --hypothesis-show-statistics

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

torture: .venv/installed  ## kill 200 runs at random moments, and compare what becomes of them
	OMP_NUM_THREADS=1 .venv/bin/python tests/torture.py --kills 200

bench-solvers: .venv/installed  ## every solver against what people use today, into benchmarks/results.md
	$(PIP) -q -e '.[dev,bench]'
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.solvers

bench-check: .venv/installed  ## the same, as a gate at half of the ratios that are aimed at
	$(PIP) -q -e '.[dev,bench]'
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.solvers --check

audit: .venv/installed  ## how good each estimator's gradient is, on a top-k choice
	$(RUN) audit solver=top_k solver.k=3 n=8 noise=gumbel

bench: .venv/installed  ## the training loop against a hand-written one, on MNIST (DATA=FOLDER if you have it)
	.venv/bin/python -m benchmarks.training data.root=$(DATA)

results: .venv/installed  ## the numbers of docs/results.md: six runs of five epochs on MNIST; DATA=FOLDER if you have it
	for config in identity imle; do for seed in 0 1 2; do \
	  run="run=results-$$config-$$seed data.root=$(DATA)"; \
	  $(RUN) fit --config configs/dvae/$$config.yaml $$run seed=$$seed trainer.max_epochs=5 ckpt_path=last && \
	  $(RUN) test run=results-$$config-$$seed ckpt_path=last || exit; \
	done; done

results-vae: .venv/installed  ## seventeen estimators on one variational autoencoder: 20 epochs on MNIST each; DATA=FOLDER
	.venv/bin/python -m benchmarks.vae data.root=$(DATA)

results-sorting: .venv/installed  ## sorting five numbers through a hard layer, by two models, against smooth layers
	for model in dense lstm; do for layer in dab: straight:estimator=straight_through tanh:task.soft=tanh elu:task.soft=elu; do \
	  run="run=sorting-$$model-$${layer%%:*}"; \
	  $(RUN) fit --config configs/sorting/$$model.yaml $$run $${layer#*:} ckpt_path=last && \
	  $(RUN) test $$run ckpt_path=last || exit; \
	done; done

clean:  ## remove the environment and what the demo made
	rm -rf .venv lightning_logs/demo
