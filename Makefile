# Two commands for a fresh machine: `make demo` and `make test`. Both make .venv first, once.

PYTHON ?= python3
PIP := .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt
RUN := .venv/bin/python -m dbp
export MPLBACKEND := agg

.PHONY: help demo test lint bench results clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 12

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -q -e '.[dev]'
	@touch $@

demo: .venv/installed  ## train a discrete autoencoder on real digits, test it, and draw what it does
	rm -rf lightning_logs/demo
	$(RUN) fit --config configs/dvae/digits.yaml run=demo
	$(RUN) test run=demo ckpt_path=best

test: lint  ## lint, type check, and every test
	.venv/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/installed  ## the training loop against a hand-written one, on MNIST (data.root as in the configs)
	.venv/bin/python benchmarks/training.py

clean:  ## remove the environment and what the demo made
	rm -rf .venv lightning_logs/demo
