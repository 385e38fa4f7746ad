#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles the judge, the baseline and the submission into the work folder (the current one); needs no GPU.
# usage: prepare.sh [--task NAME] SUBMISSION. Exit status 3: the submission's fault, 77: no compiler here.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
kernel_dir=$here/../c-kernel
if [ ! -f "$kernel_dir/common.sh" ]; then
	echo 'cuda-kernel: the folder c-kernel, whose judge is used, is not beside this one' >&2
	exit 1
fi
# shellcheck source=scripts/bin/c-kernel/common.sh
. "$kernel_dir/common.sh"

PATH=$PATH:/usr/local/cuda/bin:/opt/cuda/bin
if ! nvcc --version >/dev/null 2>&1; then
	echo 'this host has no CUDA compiler: nvcc is neither on PATH nor in /usr/local/cuda/bin' >&2
	exit 77
fi

# What to compile for: the evaluator's choice, or the GPU that nvidia-smi sees, or the oldest that
# nvcc knows, as PTX which the driver translates at the start.
choose_arch() {
	if [ -n "${ZR_CUDA_ARCH:-}" ]; then
		echo "-arch=$ZR_CUDA_ARCH"
	elif sm=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null) && [ -n "$sm" ]; then
		echo "-arch=sm_$(echo "$sm" | head -n 1 | tr -d '. ')"
	else
		oldest=$(nvcc --list-gpu-arch | head -n 1)
		echo "-arch=$oldest -code=$oldest"
	fi
}

choose_task "$@"
need_source kernel.cu
work=$(pwd)
# Changing these changes what every score means.
flags="-std=c++17 -O3 $(choose_arch)"

# In the submission's folder, so that messages name kernel.cu and not the host's folders.
compile_submission() {
	# shellcheck disable=SC2086 # the flags are words
	cd "$submission" && nvcc $flags -I"$here/include" -c -o "$work/kernel.o" kernel.cu
}

compile() { # compile NAME SOURCE
	# shellcheck disable=SC2086
	nvcc $flags "$define" -x cu -I"$here/include" -I"$kernel_dir/src" -c -o "$1.o" "$2"
}

link_runner() { # link_runner PROGRAM
	# shellcheck disable=SC2086
	nvcc $flags -o "$1" runner.o glue.o "$1.o"
}

build_judge &
judge=$!
(try_step compile_submission) || give_up "kernel.cu does not compile (nvcc $flags):"
compile runner "$here/src/runner.cu"
compile glue "$kernel_dir/src/glue.c"
compile baseline "$here/src/baseline.cu"
try_step link_runner kernel ||
	give_up "kernel.cu compiles but does not link; does it define $task() as in kernel.h?"
link_runner baseline
wait "$judge"
cp build.log "$ZR_OUTPUT/build.log"
echo "$task" >task
echo "nvcc $(nvcc --version | sed -n 's/.*release \([^,]*\),.*/\1/p'), $flags" >compiler
