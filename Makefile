# make demo, make test and make lint set up whatever is missing: the virtual environment .venv and (as root, on Debian) the
# system's packages. Elsewhere scripts/system-packages says what to install.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

DEMO_PACKAGES := fuse3
TEST_PACKAGES := fuse3 libfuse2 binutils gcc libc6-dev gdb-multiarch gddrescue zstd python3-libkdumpfile librsvg2-bin $(if $(VMCOREFS_S390X_ROOT),qemu-user-static)

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   set up, mount a small real capture, copy its vmcore, compare it with the kernel's own bytes"
	@echo "make test   set up, run all tests (VMCOREFS_GOLD=DIR and VMCOREFS_SAMPLES=DIR: with the full captures, too)"
	@echo "            (VMCOREFS_S390X_ROOT=DIR: with the s390x programs crash, makedumpfile and zgetdump under qemu-user, put in DIR)"
	@echo "make lint   ruff and mypy --strict"
	@echo "make bench  speed, as ratios to a raw read in the same run"
	@echo "make clean  remove what was set up"

$(VENV)/.runtime: pyproject.toml
	scripts/make-venv $(PYTHON) $(VENV) .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.runtime
	scripts/make-venv $(PYTHON) $(VENV) '.[test]'
	@touch $@

$(VENV)/.lint: pyproject.toml $(VENV)/.runtime
	scripts/make-venv $(PYTHON) $(VENV) '.[test,lint]'
	@touch $@

demo: $(VENV)/.runtime
	@scripts/system-packages $(DEMO_PACKAGES)
	@$(BIN)/python -m demo.demo

test: $(VENV)/.test
	@scripts/system-packages $(TEST_PACKAGES)
	@[ -z "$$VMCOREFS_S390X_ROOT" ] || scripts/s390x-root "$$VMCOREFS_S390X_ROOT"
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.runtime
	@scripts/system-packages $(DEMO_PACKAGES)
	@$(BIN)/python -m bench.bench

clean:
	rm -rf .s390x-root .s390x-root.part $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
