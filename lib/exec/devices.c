/* SPDX-License-Identifier: MIT */
#include "exec/devices.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Instructions before the list, for one device, and after the list. */
enum {
	HEAD = 7,
	EACH = 4,
	TAIL = 2,
};

static struct bpf_insn op(unsigned code, unsigned dst, unsigned src, int off, int32_t imm)
{
	return (struct bpf_insn){ .code = (uint8_t)code,
				  .dst_reg = dst & 15,
				  .src_reg = src & 15,
				  .off = (int16_t)off,
				  .imm = imm };
}

static struct bpf_insn load(unsigned dst, size_t offset)
{
	return op(BPF_LDX | BPF_MEM | BPF_W, dst, BPF_REG_1, (int)offset, 0);
}

static struct bpf_insn differs(unsigned reg, unsigned value, int skip)
{
	return op(BPF_JMP | BPF_JNE | BPF_K, reg, 0, skip, (int32_t)value);
}

static long bpf(int command, union bpf_attr *a)
{
	return syscall(SYS_bpf, command, a, sizeof(*a));
}

/* r2: the kind of device, r3 and r4: its number, r5: what is to be done with it. */
static size_t write_program(struct bpf_insn *p, const dev_t *allowed, size_t n)
{
	size_t at = 0;
	int to_the_end = (int)(n * EACH);

	p[at++] = load(BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	p[at++] = load(BPF_REG_3, offsetof(struct bpf_cgroup_dev_ctx, major));
	p[at++] = load(BPF_REG_4, offsetof(struct bpf_cgroup_dev_ctx, minor));
	p[at++] = op(BPF_ALU | BPF_MOV | BPF_X, BPF_REG_5, BPF_REG_2, 0, 0);
	p[at++] = op(BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
	/* To make a node is not to use it. */
	p[at++] = op(BPF_JMP | BPF_JSET | BPF_K, BPF_REG_5, 0, to_the_end + 1,
		     BPF_DEVCG_ACC_MKNOD << 16);
	p[at++] = differs(BPF_REG_2, BPF_DEVCG_DEV_CHAR, to_the_end);
	for (size_t i = 0; i < n; i++) {
		p[at++] = differs(BPF_REG_3, major(allowed[i]), 3);
		p[at++] = differs(BPF_REG_4, minor(allowed[i]), 2);
		p[at++] = op(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
		p[at++] = op(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	}
	p[at++] = op(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
	p[at++] = op(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return at;
}

int devices_program(const dev_t *allowed, size_t n)
{
	struct bpf_insn p[HEAD + DEVICES_MAX * EACH + TAIL];
	union bpf_attr a;
	long r;

	if (n > DEVICES_MAX)
		return -E2BIG;
	memset(&a, 0, sizeof(a));
	a.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	a.insn_cnt = (uint32_t)write_program(p, allowed, n);
	a.insns = (uintptr_t)p;
	a.license = (uintptr_t) "MIT";
	r = bpf(BPF_PROG_LOAD, &a);
	return r < 0 ? -errno : (int)r;
}

int devices_attach(int group, int program, int before)
{
	union bpf_attr a;

	memset(&a, 0, sizeof(a));
	a.target_fd = (uint32_t)group;
	a.attach_bpf_fd = (uint32_t)program;
	a.attach_type = BPF_CGROUP_DEVICE;
	a.attach_flags = BPF_F_ALLOW_MULTI | (before < 0 ? 0 : BPF_F_REPLACE);
	a.replace_bpf_fd = before < 0 ? 0 : (uint32_t)before;
	return bpf(BPF_PROG_ATTACH, &a) < 0 ? -errno : 0;
}
