# Every target sets itself up: `make demo` and `make test` work as the only command after a clone.
#
#   DATA   h5ad files, a folder  STORE  the cell store         EXP    experiment to train
#   RUN    a run's reference     RUNS   folder of run folders  OUT    where a result goes
#   SET    more options, as on the command line: SET="--training.steps 500 --mesh.fsdp 4"
#   ACCEL  cpu, cuda or tpu      PYTHON a python >= 3.12
DATA  ?=
STORE ?= cells.store
EXP   ?= cells
RUN   ?= latest
RUNS  ?= runs
OUT   ?=
SET   ?=
ACCEL ?= cpu
PYTHON ?= $(firstword $(foreach name,python3.12 python3.13 python3.14 python3 python,$(shell $(name) -c 'import sys; sys.version_info >= (3, 12) and print("$(name)")' 2>/dev/null)))

VENV    := .venv
BIN     := $(VENV)/bin
LINGSHU := $(BIN)/lingshu
STAMP   := $(VENV)/.installed-$(ACCEL)
EXTRAS  := eval,ingest,test,lint$(if $(filter cpu,$(ACCEL)),,$(comma)$(ACCEL))
comma   := ,
DEMO    := demo

.PHONY: help install demo test coverage mutants lint inspect ingest train sample eval report runs clean ui bench check-tpu results ablations chaos fuzz

help:
	@sed -n 's/^#\( \|$$\)//p' Makefile | head -8
	@echo "targets: install demo test coverage mutants lint inspect ingest train sample eval report runs ui bench check-tpu results ablations chaos fuzz clean"

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python >= 3.12 found. Install one, or say which: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 2; }
	@case "$(ACCEL)" in cpu|cuda|tpu) ;; *) echo "ACCEL must be cpu, cuda or tpu, not '$(ACCEL)'." >&2; exit 2;; esac
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(shell sed -n 's/^uv==//p' constraints.txt)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: install
	@mkdir -p $(DEMO)
	$(LINGSHU) simulate $(DEMO)/screen.h5ad
	$(LINGSHU) inspect $(DEMO)/screen.h5ad
	$(LINGSHU) ingest $(DEMO)/screen.h5ad --out $(DEMO)/screen.store --columns.context cell_line \
	  --columns.perturbation target_gene --columns.control non-targeting --columns.batch gem_group
	$(LINGSHU) train demo --store $(DEMO)/screen.store --runs $(DEMO)/runs --run demo $(SET)
	$(LINGSHU) evaluate demo --whole --runs $(DEMO)/runs --out $(DEMO)/report.html
	$(LINGSHU) runs --runs $(DEMO)/runs

test: install
	$(BIN)/python -m pytest -n 2 -m "not slow and not soak" $(SET)

coverage: install
	$(BIN)/python -m pytest -n 2 -m "not slow and not soak" --cov lingshu_jax --cov data_pipelines --cov-report term:skip-covered $(SET)

mutants: install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[mutants]'
	$(BIN)/python -m experiments.mutation $(SET)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

inspect: install
	$(LINGSHU) inspect $(DATA) $(SET)

ingest: install
	$(LINGSHU) ingest $(DATA) --out "$(STORE)" $(SET)

train: install
	$(LINGSHU) train $(EXP) --store "$(STORE)" --runs "$(RUNS)" $(SET)

sample: install
	$(LINGSHU) sample "$(RUN)" --runs "$(RUNS)" $(if $(OUT),--out "$(OUT)") $(or $(SET),--split test)

eval: install
	$(LINGSHU) evaluate "$(RUN)" --whole --runs "$(RUNS)" $(if $(OUT),--out "$(OUT)") $(SET)

report: install
	$(LINGSHU) report "$(RUN)" --runs "$(RUNS)" $(if $(OUT),--out "$(OUT)") $(SET)

runs: install
	$(LINGSHU) runs --runs "$(RUNS)" $(SET)

ui: install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[ui]'
	$(LINGSHU) runs ui --runs "$(RUNS)" $(SET)

bench: install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[bench]'
	$(BIN)/python -m experiments.benchmarks.gene_layers $(SET)
	$(BIN)/python -m experiments.benchmarks.step
	$(BIN)/python -m experiments.benchmarks.attention
	$(BIN)/python -m experiments.benchmarks.loader
	$(BIN)/python -m experiments.benchmarks.ingest

check-tpu: install
	@# Beside the environment: where jax sees libtpu it looks for a TPU at every start.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --target $(VENV)/tpu libtpu
	PYTHONPATH=$(VENV)/tpu $(BIN)/python -m experiments.check_tpu $(SET)

results: install
	$(LINGSHU) results $(if $(DATA),--data "$(DATA)",--tables) --runs "$(RUNS)" $(if $(OUT),--out "$(OUT)") $(SET)

ablations: install
	$(LINGSHU) ablations $(if $(DATA),--data "$(DATA)",--tables) --runs "$(RUNS)" $(if $(OUT),--out "$(OUT)") $(SET)

chaos: install
	$(BIN)/python -m experiments.chaos $(SET)

fuzz: install
	$(BIN)/python -m tests.fuzz $(or $(SET),--seconds 60)

clean:
	rm -rf $(VENV) $(DEMO) mutants .pytest_cache .ruff_cache .hypothesis *.egg-info
