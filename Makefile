# SPDX-License-Identifier: MIT
# make                 the programs, in build/
# make help            every target
# V=release|debug|asan|fuzz|fail  CC=gcc|clang  WERROR=1  DESTDIR= PREFIX=

-include config.mk

V      ?= release
PREFIX ?= /usr
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
O      := build/$(V)

ifeq ($(origin CC),default)
CC := gcc
endif
# Before the flags: they ask the compiler what it knows.
ifeq ($(V),fuzz)
override CC := clang
endif

# --- programs: the library folders and packages each one links -------------------------------

PROGS := $(notdir $(wildcard cmd/*))

zr_LIBS        := store messaging exec transfer base
zr_PKGS        := libpq librabbitmq openssl libconfuse libssh2 libarchive libzstd nettle jansson libsystemd
zr-eval_LIBS   := messaging exec base
zr-eval_PKGS   := librabbitmq openssl libconfuse nettle jansson libsystemd
zr-box_LIBS    := exec transfer base
zr-box_PKGS    := libzstd nettle jansson
zr-update_LIBS := store messaging base
zr-update_PKGS := libpq librabbitmq openssl libconfuse nettle jansson libsystemd
zr-fetch_LIBS  := transfer base
zr-fetch_PKGS  := libssh2 libarchive libzstd nettle jansson libseccomp
zr-gpu_LIBS    := base
zr-gpu_PKGS    := nettle jansson
zr-echo_LIBS   := messaging base
zr-echo_PKGS   := librabbitmq openssl libconfuse nettle jansson libsystemd
zr-gateway_LIBS := messaging base
zr-gateway_PKGS := libmicrohttpd nettle jansson libsystemd

LIBS     := base messaging exec store transfer
ALL_PKGS := libpq librabbitmq openssl libconfuse libssh2 libarchive libzstd nettle jansson libsystemd

# zr-box is started once per job: linked statically its exec costs less than half. Sanitizers
# need the dynamic loader.
ifneq ($(filter release debug fail,$(V)),)
zr-box_STATIC := 1
endif

# --- flags -----------------------------------------------------------------------------------

try = $(shell $(CC) -Werror $(1) -c -x c /dev/null -o /dev/null 2>/dev/null && echo '$(1)')

WARN := -Wall -Wextra -Wshadow -Wformat=2 -Wundef -Wvla -Wstrict-prototypes \
        -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wwrite-strings -Wcast-qual \
        -Wswitch-enum -Wimplicit-fallthrough -Wnull-dereference -Wdouble-promotion -Wno-missing-field-initializers \
        $(foreach w,-Walloca -Wjump-misses-init -Wlogical-op -Wduplicated-cond \
        -Wduplicated-branches,$(call try,$(w)))
ifeq ($(WERROR),1)
WARN += -Werror
endif

HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong \
        -fno-strict-overflow -fno-delete-null-pointer-checks -fno-common -fvisibility=hidden \
        $(foreach f,-fstack-clash-protection -fcf-protection -ftrivial-auto-var-init=zero,$(call try,$(f)))
LINK_HARDEN := -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed

SAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ifeq ($(V),release)
MODE := -O2 -g $(HARDEN)
else ifeq ($(V),fail)
MODE := -O2 -g $(HARDEN) -DZR_FAILPOINTS
else ifeq ($(V),debug)
MODE := -Og -g3 $(HARDEN) -DZR_DEBUG
else ifeq ($(V),asan)
MODE := -O1 -g $(SAN) -DZR_DEBUG
LINK_MODE := $(SAN)
else ifeq ($(V),fuzz)
MODE := -O1 -g $(SAN) -fsanitize=fuzzer-no-link -DZR_DEBUG
LINK_MODE := $(SAN)
else
$(error V=$(V) is not one of release debug asan fuzz fail)
endif

# VERBOSE=1 shows the commands.
Q := $(if $(VERBOSE),,@)
say = $(if $(VERBOSE),,@echo '  $(1)')

VERSION := $(shell sed -n 's/^VERSION *= *//p' version.mk 2>/dev/null)
pkg_cflags := $(shell pkg-config --cflags $(ALL_PKGS) 2>/dev/null)
zr_cflags := -std=gnu17 -D_GNU_SOURCE -DZR_VERSION='"$(VERSION)"' -Ilib -I$(O)/gen $(pkg_cflags) $(WARN) $(MODE) \
        -fPIE -ffunction-sections -fdata-sections $(CPPFLAGS) $(CFLAGS)
zr_ldflags := $(LINK_MODE) $(LINK_HARDEN) -Wl,--gc-sections $(LDFLAGS)

pkg_libs = $(shell pkg-config --libs $(1))
# libarchive's own pkg-config asks for every codec; the pax writer needs none of them.
static_libs = -Wl,--start-group $(foreach p,$(1),-l$(patsubst lib%,%,$(p))) -Wl,--end-group

# --- rules -----------------------------------------------------------------------------------

lib_srcs   = $(wildcard lib/$(1)/*.c)
lib_objs   = $(patsubst %.c,$(O)/%.o,$(call lib_srcs,$(1)))
used_libs  = $(foreach l,$(1),$(if $(call lib_srcs,$(l)),$(O)/lib$(l).a))

.PHONY: all
all: $(PROGS:%=$(O)/bin/%) $(if $(filter release,$(V)),$(PROGS:%=build/%))

.SECONDARY:
.DELETE_ON_ERROR:

$(O)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(subst ','\'',$(zr_cflags)) $(zr_ldflags)' | cmp -s - $@ || \
	 printf '%s\n' '$(CC) $(subst ','\'',$(zr_cflags)) $(zr_ldflags)' >$@
.PHONY: FORCE

$(O)/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC $(V)/$*.c)
	$(Q)$(CC) $(zr_cflags) -MMD -MP -c $< -o $@

# The migrations are part of lib/store/schema.o.
migrations := $(sort $(wildcard lib/store/migrations/*.sql))
$(O)/gen/store-migrations.inc: $(migrations)
	@mkdir -p $(@D)
	@printf 'MIGRATION(%s)\n' $(notdir $(migrations:.sql=)) >$@
$(O)/lib/store/schema.o: $(O)/gen/store-migrations.inc

# The filter of the sandbox, made by libseccomp now so that zr-box has not to do it for each job.
$(O)/gen/box-filter: cmd/zr-box/gen/filter.c $(O)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE -O1 $(WARN) -o $@ $< $(call pkg_libs,libseccomp)
$(O)/gen/box-filter.inc: $(O)/gen/box-filter
	$(Q)$< >$@
$(O)/cmd/zr-box/filter.o: $(O)/gen/box-filter.inc

# What analyzers need beside the sources.
.PHONY: generated
generated: $(O)/gen/store-migrations.inc $(O)/gen/box-filter.inc

define lib_rule
$(O)/lib$(1).a: $(call lib_objs,$(1))
	@rm -f $$@
	$(Q)$(AR) rcsD $$@ $$^
endef
$(foreach l,$(LIBS),$(eval $(call lib_rule,$(l))))

define prog_rule
$(O)/bin/$(1): $(patsubst %.c,$(O)/%.o,$(wildcard cmd/$(1)/*.c)) $(call used_libs,$($(1)_LIBS))
	@mkdir -p $$(@D)
	$(call say,LD $(1))
	$(Q)$(CC) $(if $($(1)_STATIC),-static-pie,-pie) $(zr_ldflags) -o $$@ $$^ \
	 $(if $($(1)_STATIC),$(call static_libs,$($(1)_PKGS)),$(call pkg_libs,$($(1)_PKGS))) -lm
build/$(1): $(O)/bin/$(1)
	@ln -sfn $(V)/bin/$(1) $$@
endef
$(foreach p,$(PROGS),$(eval $(call prog_rule,$(p))))

# --- tests -----------------------------------------------------------------------------------

UNIT := $(patsubst test/unit/%.c,%,$(wildcard test/unit/test_*.c))
FUZZ := $(patsubst test/fuzz/%.c,%,$(wildcard test/fuzz/fuzz_*.c))
test_libs := $(call used_libs,store messaging exec transfer base)

$(O)/test/%: $(O)/test/unit/%.o $(test_libs)
	$(Q)$(CC) -pie $(zr_ldflags) -o $@ $^ $(call pkg_libs,$(ALL_PKGS) check) -lm

# A fuzz target replays its corpus in every variant, and searches with libFuzzer under V=fuzz.
fuzz_main := $(if $(filter fuzz,$(V)),,$(O)/test/fuzz/standalone.o)
$(O)/test/fuzz_%: $(O)/test/fuzz/fuzz_%.o $(fuzz_main) $(test_libs)
	$(Q)$(CC) -pie $(zr_ldflags) $(if $(filter fuzz,$(V)),-fsanitize=fuzzer) -o $@ $^ \
	 $(call pkg_libs,$(ALL_PKGS)) -lm

.PHONY: tests check-unit check-fuzz fuzz check check-system check-uml lint demo bench
tests: $(UNIT:%=$(O)/test/%) $(FUZZ:%=$(O)/test/%) all

check-unit: tests
	@scripts/run-unit $(O)

FUZZ_TIME ?= 30
fuzz:
	@$(MAKE) --no-print-directory V=fuzz tests
	@scripts/run-fuzz build/fuzz $(FUZZ_TIME)

check:
	@scripts/install-deps
	@scripts/check

check-system: all
	@scripts/check system

check-uml:
	@scripts/install-deps
	@scripts/check uml

lint:
	@scripts/lint

demo:
	@scripts/install-deps
	@$(MAKE) --no-print-directory all
	@scripts/demo

bench:
	@scripts/install-deps build run test bench >&2
	@$(MAKE) --no-print-directory all >&2
	@test/bench/run $(BENCH)

.PHONY: torture
MINUTES ?= 5
torture:
	@$(MAKE) --no-print-directory V=fail all >&2
	@test/torture/run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(SCENARIO),--scenario $(SCENARIO)) \
	 $(if $(SOAK),--soak $(SOAK)) $(if $(OUT),--out $(OUT))

.PHONY: torture-folder
torture-folder:
	@$(MAKE) --no-print-directory V=fail all >&2
	@test/torture/folder $(POINTS)

.PHONY: format format-check compdb install clean help
c_files = $(shell git ls-files '*.c' '*.h')
format:
	@clang-format -i $(c_files)
format-check:
	@clang-format --dry-run -Werror $(c_files)

compdb:
	@$(MAKE) --no-print-directory -Bn CC=clang all tests | scripts/compdb >compile_commands.json

install: all
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' UNITDIR='$(UNITDIR)' scripts/install

clean:
	rm -rf build compile_commands.json

help:
	@echo 'make            build the programs into build/'
	@echo 'make demo       install what is missing, run the whole job once, show the leaderboard'
	@echo 'make check      install what is missing, run every test'
	@echo 'make check-unit unit tests and fuzz corpora of this variant'
	@echo 'make check-system  system tests against private real servers'
	@echo 'make check-uml  the box and the units in user-mode Linux: version 2 control groups, systemd as process 1'
	@echo 'make fuzz       search with libFuzzer, FUZZ_TIME=30 seconds a target'
	@echo 'make bench      install what is missing, benchmarks, one JSON line a figure (BENCH=name for one)'
	@echo 'make torture    kill everything at every step while evaluations run, check what is promised (MINUTES=5 SEED= SCENARIO= SOAK=)'
	@echo 'make torture-folder the same for channels that are folders (POINTS=)'
	@echo 'make lint       format, static analysis, shell, manuals, include direction'
	@echo 'make format     clang-format in place'
	@echo 'make install    into DESTDIR, PREFIX=/usr'
	@echo 'V=release|debug|asan|fuzz|fail  CC=gcc|clang  WERROR=1'

-include $(shell find build/$(V) -name '*.d' 2>/dev/null)
