#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles the judge, the baseline and the submission into the work folder (the current one).
# usage: prepare.sh [--task NAME] SUBMISSION. Exit status 3: the submission's fault.
set -eu

# Changing these changes what every score means.
cflags='-std=gnu17 -O3 -march=native -fno-math-errno'

kernel_dir=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
# shellcheck source=scripts/bin/c-kernel/common.sh
. "$kernel_dir/common.sh"

gcc --version >/dev/null 2>&1 || { echo 'c-kernel: this host has no gcc' >&2 && exit 1; }
choose_task "$@"
need_source kernel.c
work=$(pwd)

# In the submission's folder, so that messages name kernel.c and not the host's folders.
compile_submission() {
	# shellcheck disable=SC2086 # the flags are words
	cd "$submission" && gcc $cflags -fmax-errors=20 -I"$kernel_dir/include" -c \
		-o "$work/kernel.o" kernel.c
}

compile() { # compile FILE
	# shellcheck disable=SC2086
	gcc $cflags "$define" -I"$kernel_dir/include" -c -o "$1.o" "$kernel_dir/src/$1.c"
}

# Static, so that the runner needs no file once it is started.
link_runner() { # link_runner PROGRAM
	gcc -static -o "$1" runner.o glue.o "$1.o" -lm
}

build_judge &
judge=$!
(try_step compile_submission) || give_up "kernel.c does not compile (gcc $cflags):"
compile runner
compile glue
compile baseline
try_step link_runner kernel ||
	give_up "kernel.c compiles but does not link; does it define $task() as in kernel.h?"
link_runner baseline
wait "$judge"
cp build.log "$ZR_OUTPUT/build.log"
echo "$task" >task
echo "$(gcc --version | head -n 1), $cflags" >compiler
