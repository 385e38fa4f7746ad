/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_CONFINE_H
#define KERNEL_CONFINE_H

#include <stdbool.h>

/*
 * The cage of a runner: a seccomp filter that lets a program compute, use its descriptors and its own memory, and
 * nothing else. It cannot open a file, start a thread or a process, send a signal to others, or talk to a network.
 * This is a second wall, not the sandbox: it does not cover the compiler, which reads the submission's text.
 */

/* False where the kernel or the machine has no such filters. */
bool confine_possible(void);

/* For good, and for everything that this process executes later. Only execveat() of `exec_fd` is left. 0 or -errno. */
int confine(int exec_fd);

#endif
