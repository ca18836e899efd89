# Everything a developer or an operator calls. Needs Linux, python3 (3.11 or newer) and git; the rest is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev browser run test test-all test-e2b check bench image test-image security requirements

PYTHON ?= python3
PY := .venv/bin/python
CACHE := $(CURDIR)/.venv/cache
# Nothing but .venv is written into the checkout.
export PYTHONDONTWRITEBYTECODE := 1
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
PYTEST := $(PY) -m pytest -o cache_dir=$(CACHE)/pytest

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 20

setup: ## install what `make run` needs into .venv; does nothing when it is there
	@scripts/setup "$(PYTHON)" requirements.txt

setup-dev: setup
	@scripts/setup "$(PYTHON)" requirements-dev.txt

browser:
	@scripts/browser

run: setup ## start everything (Ctrl-C stops it)
	@set -a; [ ! -f .env ] || . ./.env; set +a; exec $(PY) manage.py up $(ARGS)

# One process a core; the tests of a file share servers, products and a browser, so they stay together.
PARALLEL := -n logical --maxprocesses=4 --dist loadfile

test: setup-dev browser ## the tests, without the long ones
	@$(PYTEST) $(PARALLEL) -m "not long" $(ARGS)

test-all: setup-dev browser ## all tests
	@$(PYTEST) $(ARGS)

test-e2b: setup-dev ## the sandboxes' contract and the main job on E2B's own cloud, with E2B_API_KEY
	@if [ -z "$$E2B_API_KEY" ]; then echo "E2B_API_KEY is not set, so nothing was tried on E2B's cloud."; else \
	  E2B_TESTS=real $(PYTEST) -p no:randomly tests/sandboxes/test_contract.py tests/sandboxes/test_contract_prepared.py tests/spine/test_e2b.py \
	    -k "(contract and e2b) or main_job" $(ARGS); fi

check: setup-dev ## style, types, the arrows between the rooms, templates, migrations
	@scripts/check

bench: setup ## what the figures in the documents come from
	@$(PY) manage.py bench overhead $(ARGS)

image: ## build the container image with Docker (docs/deploy.md)
	@docker build --pull --build-arg REVISION="$$(git rev-parse HEAD)" --tag asynccode:latest $(ARGS) .

test-image: setup-dev ## build the image by buildah and run it by podman; ten minutes, as root
	@$(PYTEST) -m long tests/containers $(ARGS)

security: setup-dev ## try to break out of a sandbox; prints what was tried and refused
	@$(PY) -m tests.security

requirements: setup-dev ## pin and hash the requirements (ARGS=--upgrade: the newest that fit)
	@for name in requirements requirements-dev; do \
	  CUSTOM_COMPILE_COMMAND="make requirements" $(PY) -m piptools compile --quiet --allow-unsafe --generate-hashes --strip-extras \
	    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file=$$name.txt $(ARGS) $$name.in; \
	done
