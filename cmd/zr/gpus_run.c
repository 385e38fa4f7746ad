/* SPDX-License-Identifier: MIT */
/* gpus:run: hold GPUs and run a command on them. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/time.h"
#include "child.h"
#include "commands.h"
#include "exec/gpu.h"
#include "exec/gpulock.h"

static int make_env(const struct gpu_hold *h, char ***env, struct err *e)
{
	static const char *const ours[] = { "CUDA_VISIBLE_DEVICES=", "CUDA_DEVICE_ORDER=",
					    "ZR_GPUS=" };
	auto_free char *list = NULL;
	int r = gpu_hold_text(h, &list, e);

	for (char **p = environ; r >= 0 && *p; p++) {
		bool skip = false;

		for (size_t i = 0; i < ARRAY_LEN(ours); i++)
			skip |= str_starts(*p, ours[i]);
		if (!skip && strv_add(env, *p) < 0)
			return err_nomem(e);
	}
	if (r < 0)
		return r;
	if (strv_addf(env, "%s%s", ours[0], list) < 0 ||
	    strv_addf(env, "%sPCI_BUS_ID", ours[1]) < 0 ||
	    strv_addf(env, "%s%s", ours[2], list) < 0)
		return err_nomem(e);
	return 0;
}

/* 0: they are held; else the exit status. */
static int wait_for_gpus(struct cli *c, struct gpu_hold *h, uint64_t wait_usec)
{
	uint64_t now = time_mono_usec();
	uint64_t until = wait_usec < USEC_INFINITY - now ? now + wait_usec : USEC_INFINITY;
	char span[32];
	struct err e = { 0 };
	bool told = false;

	for (;;) {
		int r = gpu_hold_try(h, &e), s;

		if (r < 0)
			return cli_fail(c, &e);
		if (r > 0)
			return CLI_DONE;
		if (!told && wait_usec)
			cli_say("zr gpus:run: waiting for GPUs");
		told = true;
		s = child_next_signal(until);
		if (s == SIGCHLD)
			continue;
		if (s == 0)
			cli_say("zr gpus:run: not enough GPUs came free in %s",
				str_span_text(span, sizeof(span), wait_usec));
		return s ? 128 + s : CLI_AGAIN;
	}
}

static int run_command(struct cli *c, const char *path, const struct gpu_hold *h)
{
	auto_strv char **env = NULL;
	struct err e = { 0 };
	pid_t pid = -1;
	int r = make_env(h, &env, &e);

	if (r == 0)
		r = child_start(path, c->argv, env, &pid, &e);
	return r < 0 ? cli_fail(c, &e) : child_follow(pid);
}

static int hold_and_run(struct cli *c, const struct settings *s, const char *path,
			struct gpu_request *q, uint64_t wait_usec)
{
	auto_obj(gpu_hold) h = NULL;
	struct err e = { 0 };
	int r;

	q->lock_dir = strdup(s->gpu_lock_dir);
	q->index_lock_dir = s->gpu_index_lock_dir ? strdup(s->gpu_index_lock_dir) : NULL;
	if (!q->lock_dir || (s->gpu_index_lock_dir && !q->index_lock_dir))
		return CLI_FAILED;
	child_block_signals();
	if (gpu_hold_new(q, NULL, NULL, &h, &e) < 0)
		return cli_fail(c, &e);
	r = wait_for_gpus(c, h, wait_usec);
	return r ? r : run_command(c, path, h);
}

int cmd_gpus_run(struct cli *c)
{
	auto_obj(settings) s = NULL;
	auto_obj(gpu_list) l = NULL;
	auto_obj(gpu_request) q = NULL;
	const char *arch = NULL, *memory = NULL;
	auto_free char *path = NULL;
	uint64_t count = 1, bytes = 0, wait_usec = USEC_INFINITY;
	struct err e = { 0 };
	const struct cli_opt opts[] = {
		{ "count", 'n', CLI_COUNT, &count, "N", "how many; default 1" },
		{ "arch", 0, CLI_TEXT, &arch, "ARCH",
		  "of this architecture: hopper, ada, sm_90, ..." },
		{ "memory", 0, CLI_TEXT, &memory, "SIZE",
		  "each with at least so much memory: 40G" },
		{ "wait", 0, CLI_SPAN, &wait_usec, "SPAN", "give up after so long; 0s: at once" },
		{ 0 },
	};

	if (!cli_parse(c, opts, 1, -1))
		return c->status;
	if (!count || count > GPU_MAX)
		return cli_usage(c, "bad value for --count (want 1 to %d)", GPU_MAX);
	if (arch && gpu_arch_fault(arch))
		return cli_usage(c, "bad value for --arch: '%s' (%s)", STR_ESC(arch),
				 gpu_arch_fault(arch));
	if (memory && str_size(memory, &bytes) < 0)
		return cli_usage(c, "bad value for --memory: '%s' (want e.g. 40G)",
				 STR_ESC(memory));
	if (!cli_settings(c, &s))
		return c->status;
	if (child_find(c->argv[0], &path, &e) < 0 || gpu_probe(s->cuda_library, &l, &e) < 0 ||
	    gpu_request_new(l, "the command", count, arch, bytes, &q, &e) < 0)
		return cli_fail(c, &e);
	if (l->is_double)
		cli_say("zr gpus:run: these are fake GPUs");
	return hold_and_run(c, s, path, q, wait_usec);
}
