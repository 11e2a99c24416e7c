# make install, uninstall, deb, rpm, pyz. Names of the folders as in the GNU coding standards; DESTDIR is put before each.

prefix = /usr/local
exec_prefix = $(prefix)
bindir = $(exec_prefix)/bin
sbindir = $(exec_prefix)/sbin
datarootdir = $(prefix)/share
datadir = $(datarootdir)
docdir = $(datarootdir)/doc/vmcorefs
mandir = $(datarootdir)/man
# Ours: programs that only vmcorefs runs. mfusepy and fusepy are in it, which distributions lack.
pkglibdir = $(exec_prefix)/lib/vmcorefs
bashdir = $(datadir)/bash-completion/completions
zshdir = $(datadir)/zsh/site-functions
fishdir = $(datadir)/fish/vendor_completions.d
# In /usr and /usr/local it is a program of the system: configuration is in /etc, and the mount helpers are where mount(8)
# looks, which is /sbin and nowhere else (/usr/sbin is the same folder on most systems). Elsewhere all is below prefix.
SYSTEMWIDE := $(filter /usr /usr/local,$(patsubst %/,%,$(prefix)))
sysconfdir = $(if $(SYSTEMWIDE),/etc,$(prefix)/etc)
mounthelperdir = $(if $(SYSTEMWIDE),$(if $(shell [ /sbin -ef /usr/sbin ] && echo 1),/usr/sbin,/sbin),$(sbindir))
unitdir = $(exec_prefix)/lib/systemd/system
# The Python that the installed programs run with.
INTERPRETER = /usr/bin/python3

BUILD := build
DIST := dist
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' vmcorefs/version.py)
INSTALL_DIRS := bindir mounthelperdir pkglibdir sysconfdir mandir docdir unitdir bashdir zshdir fishdir
# Source packages have the carried libraries in a folder of this name; a clone takes them out of the virtual environment.
CARRIED := $(if $(wildcard carried),carried,$(BUILD)/carried)

.PHONY: install uninstall deb rpm pyz

$(BUILD)/carried $(BUILD)/carried-pyz: packaging/carry.py packaging/licences $(VENV)/.runtime
	$(BIN)/python packaging/carry.py $@ fusepy mfusepy $(if $(filter %-pyz,$@),pyelftools)
	@touch $@

install uninstall: $(CARRIED)
	@CARRIED='$(CARRIED)' DESTDIR='$(DESTDIR)' INTERPRETER='$(INTERPRETER)' $(foreach name,$(INSTALL_DIRS),$(name)='$($(name))') \
		$(PYTHON) -B packaging/install.py $@

pyz: $(BUILD)/carried-pyz
	@mkdir -p $(DIST)
	$(BIN)/python packaging/make_pyz.py $(DIST)/vmcorefs.pyz $<

deb: $(CARRIED)
	@scripts/system-packages debhelper
	packaging/make-deb $(VERSION) $(CARRIED) $(BUILD) $(DIST)

rpm: $(CARRIED)
	@scripts/system-packages rpm
	packaging/make-rpm $(VERSION) $(CARRIED) $(BUILD) $(DIST)
