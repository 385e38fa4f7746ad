# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034,SC2154
# What the prepare steps of c-kernel and cuda-kernel share. The caller has set `kernel_dir`, this folder.

# The submission's fault: exit status 3.
refuse() {
	printf '%s\n' "$1" >&2
	exit 3
}

# The source must be a regular file: a link would show the compiler any file of this host.
need_source() { # need_source NAME
	[ -f "$submission/$1" ] || refuse "the submission has no file $1"
	[ ! -L "$submission/$1" ] || refuse "$1 is a symbolic link"
}

# The first word of the file `task`, or "task" of kernel.json; it may be shown, so only plain characters.
task_of() {
	if [ -f "$1/task" ]; then
		head -c 100 "$1/task" | tr -cd ' -~\n' | awk 'NF { print $1; exit }'
	elif [ -f "$1/kernel.json" ]; then
		head -c 10000 "$1/kernel.json" | tr -cd ' -~' |
			sed -n 's/.*"task"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p'
	fi
}

# choose_task [--task NAME] SUBMISSION: sets `task`, `define` and `submission`.
choose_task() {
	task=
	while [ $# -gt 1 ]; do
		case $1 in
		--task) task=$2 && shift && [ $# -gt 1 ] && shift ;;
		--task=*) task=${1#--task=} && shift ;;
		*) echo "unknown argument '$1'; there is only --task NAME" >&2 && exit 2 ;;
		esac
	done
	submission=${1:?the submission folder is missing}
	asked=$(task_of "$submission")
	[ -n "$task" ] || task=$asked
	[ -z "$asked" ] || [ "$asked" = "$task" ] ||
		refuse "the submission is for the task '$asked', but this challenge is '$task'"
	case $task in
	matmul | softmax | layernorm | conv1d) ;;
	'') refuse "no task: the submission needs a file 'task' with matmul, softmax, layernorm or conv1d" ;;
	*) refuse "unknown task '$task'; the tasks are matmul, softmax, layernorm, conv1d" ;;
	esac
	define=-DTASK_$(echo "$task" | tr '[:lower:]' '[:upper:]')
}

# Builds ./judge. It is built with every submission because that takes a second and needs no place
# outside of the work folder.
build_judge() {
	src=$kernel_dir/src
	gcc -std=gnu17 -O2 -Wall -I"$kernel_dir/include" -o judge "$src/judge.c" "$src/bench.c" \
		"$src/timing.c" "$src/report.c" "$src/child.c" "$src/confine.c" "$src/arena.c" \
		"$src/stats.c" "$src/rng.c" "$src/task.c" "$src"/task_*.c -lm
}

# try_step COMMAND... : what it says goes to build.log. Call it where a failure is handled.
try_step() {
	"$@" 2>>build.log
}

# give_up SENTENCE: the submission's own text does not build. Shows the first and most telling part.
give_up() {
	wait
	cp build.log "$ZR_OUTPUT/build.log"
	printf '%s\n' "$1" >&2
	head -c 4000 build.log >&2
	exit 3
}
