# The only commands: people and CI call the same.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

PEERS := gsop gsop-2 mosec-stages mosec-one litserve litserve-2 ray ray-2 fastapi fastapi-2 \
	pytriton pytriton-1ms

# Services and tests start many processes: without bytecode kept, each would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install serve test quick lint format bench bench-peers chaos fuzz train wheel clean gpu s3 kserve trackers

help:  ## show this
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP)  ## create .venv with everything in it

serve: install  ## run the service on http://127.0.0.1:8000 (settings: GSOP_*)
	$(BIN)/python -m gsop serve

test: install  ## run every test
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile $(ARGS)

quick: install  ## run the tests of what is pure, in seconds
	$(BIN)/python -m pytest --quick -q $(ARGS)

lint: install  ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install  ## mend format and style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## measure the service; needs wrk (apt-get install wrk)
	$(BIN)/python -m benchmarks.serve --model null
	$(BIN)/python -m benchmarks.serve --model digits
	$(BIN)/python -m benchmarks.serve --model resnet50
	$(BIN)/python -m benchmarks.profile
	$(BIN)/python -m benchmarks.idle
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.target_latency
	$(BIN)/python -m benchmarks.forward --served

bench-peers: install  ## the same with other servers beside it, which it installs
	benchmarks/peers/install.sh
	$(BIN)/python -m benchmarks.serve --model null --servers $(PEERS) --name null
	$(BIN)/python -m benchmarks.serve --model digits --servers $(PEERS) --name digits

gpu: install  ## see that a GPU is right, and how fast it is; 8 minutes, wants wrk (apt-get install wrk)
	$(BIN)/python -m benchmarks.gpu --tests --name gpu

chaos: install  ## try to break what is promised; half an hour, needs nginx (apt-get install nginx-light) and redis-server
	$(BIN)/python -m tests.chaos.attack --requests 20000
	$(BIN)/python -m tests.chaos.beside
	$(BIN)/python -m tests.chaos.replicas
	$(BIN)/python -m tests.chaos.protocol --bodies 20000 --seconds 60
	$(BIN)/python -m tests.chaos.failures --seconds 60 --requests 200000
	FUZZ_EXAMPLES=300 $(BIN)/python -m pytest -q tests/api/http/test_openapi_fuzz.py

s3: install  ## publish to an S3 of its own and fetch from it (moto, in an environment of its own)
	$(BIN)/uv venv --quiet --clear .venv/moto
	$(BIN)/uv pip install --quiet --python .venv/moto/bin/python 'moto[s3]>=5.1' flask flask-cors
	PATH=$(CURDIR)/.venv/moto/bin:$$PATH $(BIN)/python -m pytest -q tests/store/test_s3.py

trackers: install  ## train with MLflow and Weights & Biases told of it, each in a folder
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --target .venv/trackers \
		mlflow-skinny wandb
	PYTHONPATH=.venv/trackers $(BIN)/python -m pytest -q tests/train/test_trackers.py

kserve: install  ## ask a service by KServe's own client (in an environment of its own)
	$(BIN)/uv venv --quiet --clear .venv/kserve
	$(BIN)/uv pip install --quiet --python .venv/kserve/bin/python 'kserve>=0.21,<0.22'
	$(BIN)/python -m pytest -q tests/api/oip/test_kserve.py

fuzz: install  ## look for inputs that break a parser or decoder, for minutes; keep what was found
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz --seconds 120 --keep

train: install  ## train the default model again, as the next version
	$(BIN)/python -m gsop train --recipe digits --output runs/digits
	$(BIN)/python -m gsop publish runs/digits --name digits

wheel: install  ## make the wheel of this commit, always the same bytes, and its bill of materials
	$(BIN)/python -m deploy.wheel --output dist
	$(BIN)/python -m deploy.bom --output dist/gsop.cdx.json

clean:  ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist app/*.egg-info
