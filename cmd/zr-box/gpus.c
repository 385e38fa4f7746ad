/* SPDX-License-Identifier: MIT */
/*
 * The GPUs of `run`. They are waited for after `prepare`, under a limit of the wait's own, and the
 * clock of `run` starts when they are held; they are let go of when the phase was seen empty, by a
 * keeper that is killed through its end. In a jail their device nodes are there during `run` and no
 * others are.
 */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "base/time.h"
#include "exec/gpucheck.h"
#include "exec/gpulock.h"
#include "jail.h"
#include "keeper.h"
#include "spawn.h"

/* What every process needs that uses a GPU. */
static const char *const common[] = { "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools" };

/* --- what the job sees ---------------------------------------------------------------------------- */

static void show_node(struct keeper *k, const struct gpu *g, const char *name)
{
	struct err e = { 0 };
	int r = jailroot_add_node(k, name, &e);

	/* Two parts are of the same GPU; a double has no devices. */
	if (r < 0 && r != -EEXIST && (r != -ENOENT || !k->spec->gpus->is_double))
		verdict(k, BOX_SETUP, "GPU %s cannot be shown to the job: %s", g->uuid, e.msg);
}

static void cap_name(char out[40], int n)
{
	snprintf(out, 40, "nvidia-caps/nvidia-cap%d", n);
}

static void show(struct keeper *k, const struct gpu *g)
{
	char name[40];

	if (g->node < 0) {
		verdict(k, BOX_SETUP,
			"which /dev/nvidiaN is GPU %s is not known: there is neither "
			"/proc/driver/nvidia nor libnvidia-ml.so.1",
			g->uuid);
		return;
	}
	if (g->parent[0] && g->caps[0] < 0) {
		verdict(k, BOX_SETUP,
			"which /dev/nvidia-caps/nvidia-capN are of GPU %s, a part of one (MIG), is "
			"not known: there is no libnvidia-ml.so.1 or no "
			"/proc/driver/nvidia-caps/mig-minors",
			g->uuid);
		return;
	}
	snprintf(name, sizeof(name), "nvidia%d", g->node);
	show_node(k, g, name);
	for (size_t i = 0; g->parent[0] && !k->decided && i < ARRAY_LEN(g->caps); i++) {
		cap_name(name, g->caps[i]);
		show_node(k, g, name);
	}
}

static void show_all(struct keeper *k)
{
	const struct gpu *g;

	for (size_t i = 0; i < ARRAY_LEN(common); i++) {
		struct err e = { 0 };
		int r = jailroot_add_node(k, common[i], &e);

		if (r < 0 && r != -ENOENT)
			verdict(k, BOX_SETUP, "%s", e.msg);
	}
	for (size_t i = 0; !k->decided && (g = gpu_hold_gpu(k->gpus, i)); i++)
		show(k, g);
	jail_close_devices(k);
}

static void hide_all(struct keeper *k)
{
	const struct gpu *g;
	char name[40];

	for (size_t i = 0; i < ARRAY_LEN(common); i++)
		jailroot_remove_node(k, common[i]);
	for (size_t i = 0; (g = gpu_hold_gpu(k->gpus, i)); i++) {
		snprintf(name, sizeof(name), "nvidia%d", g->node);
		jailroot_remove_node(k, name);
		for (size_t c = 0; g->parent[0] && c < ARRAY_LEN(g->caps); c++) {
			cap_name(name, g->caps[c]);
			jailroot_remove_node(k, name);
		}
	}
	jail_close_devices(k);
}

int gpus_env(const struct keeper *k, char ***env)
{
	auto_free char *list = NULL, *line = NULL;
	int r;

	if (!k->spec->gpus)
		return 0;
	if (!k->gpus)
		return spawn_set_env(env, "CUDA_VISIBLE_DEVICES=");
	r = gpu_hold_text(k->gpus, &list, NULL);
	if (r == 0)
		r = str_fmt(&line, "CUDA_VISIBLE_DEVICES=%s", list);
	if (r >= 0)
		r = spawn_set_env(env, line);
	if (r >= 0)
		r = spawn_set_env(env, "CUDA_DEVICE_ORDER=PCI_BUS_ID");
	if (r >= 0)
		r = strv_addf(env, "ZR_GPUS=%s", list);
	return r < 0 ? -ENOMEM : 0;
}

/* Which they are, for the result. */
static int describe(struct keeper *k)
{
	json_t *a = json_array();
	const struct gpu *g;
	int r = a ? 0 : -1;

	for (size_t i = 0; r == 0 && (g = gpu_hold_gpu(k->gpus, i)); i++) {
		char arch[GPU_ARCH_MAX];

		r = json_array_append_new(
			a, json_pack("{s:s, s:s, s:s, s:I, s:i, s:b}", "uuid", g->uuid, "name",
				     g->name, "architecture", gpu_arch(arch, g->major, g->minor),
				     "memory_bytes", (json_int_t)g->memory_bytes, "index",
				     (int)g->index, "double", k->spec->gpus->is_double));
	}
	if (r == 0)
		return json_object_set_new(k->isolation, "gpu", a);
	json_decref(a);
	return r;
}

/* --- waiting -------------------------------------------------------------------------------------- */

static bool is_late(struct keeper *k, uint64_t until)
{
	const struct gpu_request *q = k->spec->gpus;
	char limit[32];

	if (time_mono_usec() < until)
		return false;
	str_span_text(limit, sizeof(limit), q->wait_usec);
	verdict(k, BOX_INFRASTRUCTURE, "no %llu GPU%s came free for run in %s",
		(unsigned long long)q->count, q->count == 1 ? "" : "s", limit);
	return true;
}

/* 1: held; 0: there is a verdict. */
static int wait_until_held(struct keeper *k, uint64_t until, struct err *e)
{
	for (;;) {
		struct pollfd p[POLL_CONTROL];
		int r = gpu_hold_try(k->gpus, e);
		size_t n;

		if (r != 0)
			return r;
		n = control_poll(k, p);
		(void)signals_poll(p, n, until);
		control_events(k, p);
		if (signals_take_stop())
			verdict(k, BOX_INFRASTRUCTURE, "the keeper was told to end");
		lease_check(k);
		if (k->decided || is_late(k, until))
			return 0;
	}
}

/* --- leftovers ------------------------------------------------------------------------------------ */

/* Clocks and the like, of before and after beside each other. What is not noted is missing: no harm. */
static void note_state(struct keeper *k, const struct gpu_check *c, const char *when)
{
	json_t *a = json_array();

	for (size_t i = 0; a && gpu_hold_gpu(k->gpus, i); i++) {
		json_t *state = gpu_check_state(c, i);

		if (state)
			(void)json_array_append_new(a, state);
	}
	if (!json_object_get(k->conditions, "gpu"))
		(void)json_object_set_new(k->conditions, "gpu", json_object());
	(void)json_object_set_new(json_object_get(k->conditions, "gpu"), when, a);
}

/* Each bad one goes into quarantine; returns how many, and says so in the result. */
static int quarantine_bad(struct keeper *k, const struct gpu_check *c, const char *when,
			  struct err *e)
{
	const struct gpu *g;
	const char *why = "clean";
	json_t *said = json_object_get(k->isolation, "gpu_check");
	int n = 0, r = 0;

	for (size_t i = 0; r == 0 && (g = gpu_hold_gpu(k->gpus, i)); i++) {
		if (!gpu_check_fault(c, i))
			continue;
		why = gpu_check_fault(c, i);
		r = gpu_quarantine(k->spec->gpus->lock_dir, g->uuid, why, e);
		n++;
	}
	if (!said) {
		said = json_pack("{s:s}", "method", gpu_check_method(c));
		if (json_object_set_new(k->isolation, "gpu_check", said) < 0)
			return err_nomem(e);
	}
	if (json_object_set_new(
		    said, when,
		    json_string(str_eq(gpu_check_method(c), "off") && !n ? "unknown" : why)) < 0)
		return err_nomem(e);
	return r < 0 ? r : n;
}

/* The number of those that are not clean and are in quarantine now. */
static int check(struct keeper *k, const char *when, struct err *e)
{
	auto_obj(gpu_check) c = NULL;
	int r = gpu_check_begin(k->spec->gpus, k->gpus, &c, e);

	while (r == 0) {
		struct pollfd p[POLL_CONTROL + 1];
		uint64_t until;
		size_t n;

		r = gpu_check_step(c, &until, e);
		if (r != 0)
			break;
		n = control_poll(k, p);
		p[n] = (struct pollfd){ .fd = gpu_check_fd(c), .events = POLLIN };
		(void)signals_poll(p, n + 1, until);
		control_events(k, p);
	}
	if (r > 0)
		note_state(k, c, when);
	return r < 0 ? r : quarantine_bad(k, c, when, e);
}

/* 1: held and clean; 0: there is a verdict. Those that are not clean are left to their quarantine, and
 * others waited for. */
static int hold_clean(struct keeper *k, uint64_t until, struct err *e)
{
	for (;;) {
		int r = gpu_hold_new(k->spec->gpus, k->spec->attempt_id, k->spec->cgroup.v2,
				     &k->gpus, e);

		if (r == 0)
			r = wait_until_held(k, until, e);
		if (r <= 0)
			return r;
		r = k->spec->gpus->settle_usec ? check(k, "before", e) : 0;
		if (r == 0)
			return !k->decided;
		gpu_hold_free(k->gpus);
		k->gpus = NULL;
		if (r < 0)
			return r;
	}
}

void gpus_take(struct keeper *k)
{
	const struct gpu_request *q = k->spec->gpus;
	uint64_t since = time_mono_usec();
	uint64_t until = q && q->wait_usec && q->wait_usec < UINT64_MAX - since
				 ? since + q->wait_usec
				 : UINT64_MAX;
	struct err e = { 0 };
	int r;

	if (!q)
		return;
	r = hold_clean(k, until, &e);
	k->result.gpu_wait_usec = time_mono_usec() - since;
	if (r > 0) {
		k->gpu_usec = time_mono_usec();
		if (describe(k) < 0)
			r = err_nomem(&e);
		else if (k->jail)
			show_all(k);
	}
	if (r < 0)
		verdict(k, BOX_INFRASTRUCTURE, "%s", e.msg);
}

void gpus_let_go(struct keeper *k)
{
	struct err e = { 0 };

	if (!k->gpus)
		return;
	if (k->jail)
		hide_all(k);
	/* Of what ran there something may be left; who comes next would look too, but not know whose. */
	if (k->gpu_usec && k->spec->gpus->settle_usec && check(k, "after", &e) < 0)
		(void)json_object_set_new(k->isolation, "gpu_check_error", json_string(e.msg));
	gpu_hold_free(k->gpus);
	k->gpus = NULL;
	if (k->gpu_usec)
		k->result.gpu_hold_usec = time_mono_usec() - k->gpu_usec;
}
