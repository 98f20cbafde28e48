# tilestream: `make demo` and `make test` are all that a newcomer needs; both set up what they use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Where pip finds PyTorch. On Linux the default index gives the CUDA build (gigabytes); for the small CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
VIDEO ?=
VERSION ?=
DISTRIBUTIONS := server client/python street training

.PHONY: help setup demo test test-long go-test compose-check lint format proto version bench clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

setup: $(STAMP)  ## .venv/ with pinned versions of everything

$(STAMP): $(DISTRIBUTIONS:%=%/pyproject.toml) requirements-dev.txt constraints.txt tools/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH_INDEX="$(TORCH_INDEX)" tools/setup.sh
	touch $@

demo: $(STAMP)  ## stream a clip (VIDEO=path, or the synthetic street) through a real server into out/demo/
	$(BIN)/python -m tools.demo $(if $(VIDEO),--video "$(VIDEO)")

test: lint go-test  ## lint, types, API compatibility and all tests
	proto/check.sh
	$(BIN)/python -m pytest

go-test: $(STAMP)  ## the Go client: gofmt, vet, staticcheck, tests with the race detector, a few seconds of fuzzing
	$(BIN)/python -m tools.go_test

test-long: $(STAMP)  ## the tests that take minutes each and that `make test` leaves out
	$(BIN)/python -m pytest --long -m long || [ $$? -eq 5 ]  # 5: there are none

compose-check: $(STAMP)  ## build the images, run the compose stack and look at it from outside (needs a Docker engine)
	$(BIN)/python -m pytest --docker -m docker

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(STAMP)  ## generate the Python and Go stubs of proto/ anew
	$(BIN)/python -m proto.generate

version: $(STAMP)  ## give all distributions another version: make version VERSION=0.2.0
	$(BIN)/python -m tools.version "$(VERSION)"

bench: $(STAMP)  ## measure side by side; JSON and a table in bench/results/
	$(BIN)/python -m bench.run_all

clean:  ## remove what was built (the virtual environment too)
	rm -rf $(VENV) build $(DISTRIBUTIONS:%=%/build) out .mypy_cache .ruff_cache .pytest_cache .hypothesis
