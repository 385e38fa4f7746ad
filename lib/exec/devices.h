/* SPDX-License-Identifier: MIT */
/*
 * Which devices the processes of a control group of version 2 may open, by a program of the kernel's.
 * It needs CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN) and is gone with the group.
 */
#ifndef ZR_EXEC_DEVICES_H
#define ZR_EXEC_DEVICES_H

#include <stddef.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"

/* More than any host has GPUs. */
#define DEVICES_MAX 128

/* A program that allows to read and write these character devices and nothing else, as a descriptor;
 * or -errno. */
int devices_program(const dev_t *allowed, size_t n) must_check;
/* Binds it to a group, in place of `before` (-1: none was there). What is in the group or below it
 * must satisfy the programs of all groups above as well. */
int devices_attach(int group, int program, int before) must_check;

#endif
