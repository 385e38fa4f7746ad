#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles the judge, the baseline and the submission into the work folder (the current one).
# usage: prepare.sh [--task NAME] SUBMISSION. Exit status 3: the submission's fault.
set -eu

# Changing these changes what every score means.
cflags='-std=gnu17 -O3 -march=native -fno-math-errno'

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
work=$(pwd)
cc=gcc

refuse() {
	echo "$1" >&2
	exit 3
}

# The first word of the file `task`, or "task" of kernel.json.
task_of() {
	if [ -f "$1/task" ]; then
		head -c 100 "$1/task" | tr -d '\000' | awk 'NF { print $1; exit }'
	elif [ -f "$1/kernel.json" ]; then
		head -c 10000 "$1/kernel.json" | tr -d '\000\n' |
			sed -n 's/.*"task"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p'
	fi
}

task=
while [ $# -gt 1 ]; do
	case $1 in
	--task) task=$2 && shift 2 ;;
	--task=*) task=${1#--task=} && shift ;;
	*) echo "c-kernel: unknown argument '$1'; there is only --task NAME" >&2 && exit 2 ;;
	esac
done
submission=$1
asked=$(task_of "$submission")
[ -n "$task" ] || task=$asked
[ -z "$asked" ] || [ "$asked" = "$task" ] ||
	refuse "the submission is for the task '$asked', but this challenge is '$task'"
case $task in
matmul | softmax | layernorm | conv1d) ;;
'') refuse "no task: the submission needs a file 'task' with matmul, softmax, layernorm or conv1d" ;;
*) refuse "unknown task '$task'; the tasks are matmul, softmax, layernorm, conv1d" ;;
esac
[ -f "$submission/kernel.c" ] || refuse "the submission has no file kernel.c"
define=-DTASK_$(echo "$task" | tr '[:lower:]' '[:upper:]')

src=$here/src
$cc --version >/dev/null 2>&1 || { echo "c-kernel: this host has no $cc" >&2 && exit 1; }
# The judge is trusted and the same for all; it is built beside the rest because that takes a second
# and needs no place outside of the work folder.
$cc -std=gnu17 -O2 -Wall -I"$here/include" -o judge "$src"/judge.c "$src"/bench.c "$src"/timing.c \
	"$src"/report.c "$src"/child.c "$src"/confine.c "$src"/arena.c "$src"/stats.c "$src"/rng.c \
	"$src"/task*.c -lm &
judge=$!

# shellcheck disable=SC2086 # the flags are words
$cc $cflags $define -I"$here/include" -c -o runner.o "$src/runner.c"
# shellcheck disable=SC2086
$cc $cflags $define -I"$here/include" -c -o glue.o "$src/glue.c"
# shellcheck disable=SC2086
$cc $cflags -I"$here/include" -c -o baseline.o "$src/baseline.c"

# shellcheck disable=SC2086
if ! (cd "$submission" && $cc $cflags -fmax-errors=20 -I"$here/include" -c \
	-o "$work/kernel.o" kernel.c) 2>build.log; then
	wait "$judge" || true
	cp build.log "$ZR_OUTPUT/build.log"
	echo "kernel.c does not compile ($cc $cflags):" >&2
	head -c 4000 build.log >&2
	exit 3
fi
# Static, so that the runner needs no file once it is started.
if ! $cc -static -o kernel runner.o glue.o kernel.o -lm 2>>build.log; then
	wait "$judge" || true
	cp build.log "$ZR_OUTPUT/build.log"
	echo "kernel.c compiles but does not link; does it define $task() as in kernel.h?" >&2
	tail -c 4000 build.log >&2
	exit 3
fi
$cc -static -o baseline runner.o glue.o baseline.o -lm
cp build.log "$ZR_OUTPUT/build.log"
wait "$judge"
echo "$task" >task
echo "$($cc --version | head -n 1), $cflags" >compiler
