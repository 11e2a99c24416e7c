# make demo, make test and make lint set up whatever is missing: the virtual environment .venv and (as root, on Debian) the
# system's packages. Elsewhere scripts/system-packages says what to install.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

DEMO_PACKAGES := fuse3
TEST_PACKAGES := fuse3 libfuse2 binutils gcc libc6-dev gdb-multiarch gddrescue zstd e2fsprogs python3-libkdumpfile librsvg2-bin mandoc zsh fish debhelper rpm mmdebstrap shellcheck systemd $(if $(VMCOREFS_S390X_ROOT)$(VMCOREFS_ARM64_ROOT),qemu-user-static)
S390X_PACKAGES := qemu-system-misc
SYSTEMD_VM_PACKAGES := qemu-system-x86 qemu-utils mmdebstrap e2fsprogs

.PHONY: help demo test lint bench s390x systemd-vm completions man-html clean

help:
	@echo "make demo   set up, mount a small real capture, copy its vmcore, compare it with the kernel's own bytes"
	@echo "make test   set up, run all tests (VMCOREFS_GOLD=DIR and VMCOREFS_SAMPLES=DIR: with the full captures, too)"
	@echo "            (VMCOREFS_S390X_ROOT=DIR: with the s390x programs crash, makedumpfile, zgetdump and Python under qemu-user, put in DIR;"
	@echo "            VMCOREFS_ARM64_ROOT=DIR: with arm64's Python)"
	@echo "make lint   ruff and mypy --strict"
	@echo "make bench  speed, as ratios to a raw read in the same run"
	@echo "make s390x  Debian's s390x kernel in qemu-system-s390x mounts captures for real (docs/s390x.md)"
	@echo "make systemd-vm  Debian 12 in a virtual machine: the systemd units and the automount, with a real systemd (docs/systemd.md)"
	@echo "make completions  write completions/ anew from the option table; make man-html: the man pages for a browser, in build/man"
	@echo "make install, uninstall  DESTDIR=, prefix= (/usr/local), ...; see docs/install.md"
	@echo "make deb, rpm, pyz  packages for Debian and for RHEL, SLES and Fedora; one file that runs anywhere; in dist/"
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
	@[ -z "$$VMCOREFS_ARM64_ROOT" ] || scripts/arm64-root "$$VMCOREFS_ARM64_ROOT"
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.runtime
	@scripts/system-packages $(DEMO_PACKAGES)
	@$(BIN)/python -m bench.bench

s390x: $(VENV)/.runtime
	@scripts/system-packages $(S390X_PACKAGES)
	@scripts/s390x-machine .s390x-machine
	@$(BIN)/python -m tests.emulated.machine .s390x-machine

systemd-vm: $(VENV)/.runtime
	@scripts/system-packages $(SYSTEMD_VM_PACKAGES)
	@scripts/systemd-vm-image .systemd-vm
	@$(BIN)/python -m tests.systemd.vm .systemd-vm

completions: $(VENV)/.test
	$(BIN)/python scripts/make-completions completions

man-html:
	@scripts/system-packages mandoc
	@mkdir -p build/man
	@for page in man/*.[158]; do mandoc -T html -O toc,man=%N.%S.html "$$page" >"build/man/$${page##*/}.html" || exit; done
	@echo "build/man: $$(ls build/man | tr '\n' ' ')"

include packaging/install.mk

clean:
	rm -rf .s390x-root .s390x-root.part .arm64-root .arm64-root.part .s390x-machine .s390x-machine.part .systemd-vm $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
