# Thin calls of the console script msat-bench; every target makes .venv on first use.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPEED := $(VENV)/.speed
FLAGS := $(if $(TASK),--task $(TASK)) $(if $(MODEL),--model $(MODEL)) $(if $(METHODS),--methods $(METHODS)) \
  $(if $(PROFILE),--profile $(PROFILE)) $(if $(DATA),--data $(DATA)) $(if $(DEVICE),--device $(DEVICE)) \
  $(if $(STEPS),--steps $(STEPS)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(SEEDS),--seeds $(SEEDS)) \
  $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(BACKEND),--backend $(BACKEND)) $(if $(ENGINE),--engine $(ENGINE)) \
  $(if $(CALIBRATION),--calibration $(CALIBRATION)) $(if $(THREADS),--threads $(THREADS)) \
  $(foreach file,$(PLUGIN),--plugin $(file))

.PHONY: bench report list test check speed clean
.DEFAULT_GOAL := help

help:
	@echo "make bench [TASK=speech] [MODEL=] [METHODS=msat,rmp] [PROFILE=full DATA=DIR] [STEPS=] [LIMIT=] [SEEDS=] [EPOCHS=]"
	@echo "make report [COSTS=jouppi-7nm] | list | test | check | speed"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

bench: $(READY)
	@$(BIN)/msat-bench run $(FLAGS)

report: $(READY)
	@$(BIN)/msat-bench report $(if $(COSTS),--costs $(COSTS))

list: $(READY)
	@$(BIN)/msat-bench list $(foreach file,$(PLUGIN),--plugin $(file))

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses auto $(TESTS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(SPEED): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[speed]'
	@touch $@

speed: $(SPEED)
	@$(if $(DATA),MSAT_DATA=$(DATA)) $(BIN)/python -m benchmarks.speed

clean:
	rm -rf $(VENV) .cache build *.egg-info
