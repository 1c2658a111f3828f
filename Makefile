# Thin calls of the console script msat-bench; every target makes .venv on first use.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
COMMA := ,
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SPEED := $(VENV)/.speed
# Settings are what the command says; a DATA or SEED that happens to be in the environment is none.
SETTINGS := TASK MODEL METHODS PROFILE DATA DEVICE STEPS LIMIT SEEDS SEED EPOCHS BACKEND CALIBRATION THREADS PLUGIN COSTS RESULTS
$(foreach v,$(SETTINGS),$(if $(filter environment,$(origin $v)),$(eval $v :=)))
FLAGS := $(if $(TASK),--task $(TASK)) $(if $(MODEL),--model $(MODEL)) $(if $(METHODS),--methods '$(METHODS)') \
  $(if $(PROFILE),--profile $(PROFILE)) $(if $(DATA),--data $(DATA)) $(if $(DEVICE),--device $(DEVICE)) \
  $(if $(STEPS),--steps $(STEPS)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED)) \
  $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(BACKEND),--backend $(BACKEND)) \
  $(if $(CALIBRATION),--calibration $(CALIBRATION)) $(if $(THREADS),--threads $(THREADS)) \
  $(if $(RESULTS),--results $(RESULTS)) \
  $(foreach file,$(PLUGIN),--plugin $(file))

KNOWN := $(SETTINGS) PYTHON TESTS VENV BIN READY
UNKNOWN := $(filter-out $(KNOWN),$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$v)))
$(if $(UNKNOWN),$(error $(UNKNOWN) is not a setting of this Makefile; it knows $(filter-out VENV BIN READY,$(KNOWN))))

.PHONY: bench report list test check speed paper clean
.DEFAULT_GOAL := help

help:
	@echo "make bench [TASK=speech] [MODEL=] [METHODS=msat,rmp] [PROFILE=full DATA=DIR] [STEPS=] [LIMIT=] [SEEDS=] [SEED=] [EPOCHS=] [RESULTS=]"
	@echo "make report [COSTS=jouppi-7nm] | list | test | check | speed [DATA=DIR] | paper DATA=DIR [RESULTS=]"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

bench: $(READY)
	@$(BIN)/msat-bench run $(FLAGS)

report: $(READY)
	@$(BIN)/msat-bench report $(if $(COSTS),--costs $(COSTS)) $(if $(RESULTS),--results $(RESULTS))

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

# The paper's experiments at full size, the small networks first; a run that is stopped goes on where it was. results/full/, short/,
# gpu/ and longer/ hold what has been run so far, on fewer pictures (docs/findings.md); on other data than those name a folder with RESULTS=.
OUT := $(or $(RESULTS),results)
FULL = $(BIN)/msat-bench run --profile full --data $(DATA) $(if $(DEVICE),--device $(DEVICE)) --results $(OUT)
IGNORED = $(strip $(foreach v,$(filter-out DATA DEVICE RESULTS,$(SETTINGS)),$(if $($v),$v)))
ALONE := msat:units=normalised;det=False msat:units=normalised;dtt=False
ABLATIONS := '$(subst $(eval ) ,$(COMMA),$(foreach k,0.2 0.3 0.5 0.7 0.9 1.0,kappa:fraction=$(k)) $(ALONE))'
paper: $(READY)
	$(if $(DATA),,$(error name the folder of data sets with DATA=))
	$(if $(IGNORED),$(error make paper takes DATA, DEVICE and RESULTS alone; leave $(IGNORED) away, or use make bench))
	$(FULL) --task imdb --epochs 3 --steps 256
	$(FULL) --task imdb --epochs 3 --steps 256 --methods $(ABLATIONS)
	$(FULL) --task speech --epochs 24
	$(FULL) --task speech --epochs 24 --methods $(ABLATIONS)
	$(FULL) --task speech --epochs 24 --methods maximum:pool=gate,maximum:pool=step,maximum:pool=before,maximum:pool=before-step
	$(FULL) --task cifar10 --model resnet20-he --epochs 24 --limit 2000
	$(FULL) --task cifar10 --model resnet20-he --epochs 24 --limit 2000 --methods $(ABLATIONS)
	for size in 128 1024; do \
	  $(FULL) --task cifar10 --model resnet20-he --epochs 24 --limit 2000 --calibration $$size --methods msat,maximum,dcgs \
	    --results $(OUT)/calibration-$$size || exit; done
	$(FULL) --task cifar10 --model vgg16 --epochs 100 --limit 2000
	$(FULL) --task cifar10 --model vgg16 --epochs 100 --limit 2000 --methods $(ABLATIONS)
	$(FULL) --task cifar10 --model resnet20 --epochs 100 --limit 2000
	$(FULL) --task cifar10 --model resnet20 --epochs 100 --limit 2000 --methods $(ABLATIONS)
	$(FULL) --task speech --epochs 24 --steps 2048 --methods msat,maximum,rmp
	$(FULL) --task cifar10 --model vgg16 --epochs 100 --limit 2000 --steps 2048 --methods msat,maximum,rmp
	$(FULL) --task cifar10 --model vgg16 --epochs 12 --limit 2000 --results $(OUT)/short
	$(FULL) --task cifar10 --model vgg16 --epochs 12 --limit 2000 --results $(OUT)/short --methods $(ABLATIONS)
	$(FULL) --task cifar10 --model vgg16 --epochs 73 --limit 2000 --results $(OUT)/gpu
	$(FULL) --task cifar10 --model vgg16 --epochs 73 --limit 2000 --results $(OUT)/gpu --methods $(ABLATIONS)
	$(FULL) --task cifar10 --model resnet20 --epochs 66 --limit 2000 --results $(OUT)/gpu
	$(FULL) --task cifar10 --model resnet20 --epochs 66 --limit 2000 --results $(OUT)/gpu --methods $(ABLATIONS)
	$(FULL) --task cifar10 --model resnet20-he --epochs 60 --limit 2000 --results $(OUT)/longer
	$(FULL) --task cifar10 --model resnet20-he --epochs 60 --limit 2000 --results $(OUT)/longer --methods $(ABLATIONS)

clean:
	rm -rf $(VENV) .cache build *.egg-info
