/* SPDX-License-Identifier: MIT */
#include "exec/gpucheck.h"

#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"

#define PAUSE_USEC  (10 * USEC_PER_MSEC)
#define PAUSE_MAX   (640 * USEC_PER_MSEC)
#define SLACK_BYTES (64ull << 20)

struct look {
	const struct gpu *gpu;
	char fault[160]; /* "": clean */
	json_t *state;   /* the answer; or NULL */
	bool passing;    /* it may be gone at the next look */
};

struct gpu_check {
	const struct gpu_request *request;
	struct look *look;
	size_t n;
	struct gpu_probe *probe; /* asking; else NULL */
	uint64_t asked_usec, settle_until, pause_usec, again_usec;
	bool known;
};

static int ask(struct gpu_check *c, struct err *e)
{
	auto_strv char **words = NULL;
	const char *library = c->request->library;
	int r = strv_add(&words, "--check");

	if (r >= 0)
		r = strv_add(&words, library ? library : "");
	for (size_t i = 0; i < c->n && r >= 0; i++)
		r = strv_add(&words, c->look[i].gpu->uuid);
	if (r < 0)
		return err_nomem(e);
	c->asked_usec = time_mono_usec();
	return gpu_ask(words, &c->probe, e);
}

/* --- the baseline --------------------------------------------------------------------------------- */

/* "driver bytes". Of another driver there is none; whoever writes the first holds the GPU. */
static int baseline(const struct gpu_check *c, const struct gpu *g, const char *driver,
		    uint64_t used, bool idle, uint64_t *ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	auto_close int dir = -1;
	auto_free char *text = NULL;
	char name[GPU_UUID_MAX + 16];
	size_t n = strlen(driver);
	int r = fd_open_dir(AT_FDCWD, c->request->lock_dir, &dir, e);

	snprintf(name, sizeof(name), "gpu_%s.baseline", g->uuid);
	if (r < 0)
		return r;
	*ret = used;
	if (fd_read_file(dir, name, 256, &b, NULL) == 0 && b.len > n + 1 &&
	    strncmp(b.data, driver, n) == 0 && b.data[n] == ' ') {
		b.data[n + 1 + strspn(b.data + n + 1, "0123456789")] = '\0';
		return str_u64(b.data + n + 1, ret) < 0 ? err_input(e, "%s is spoilt", name) : 0;
	}
	if (!idle)
		return 0;
	if (str_fmt(&text, "%s %llu\n", driver, (unsigned long long)used) < 0)
		return err_nomem(e);
	return fd_write_file(dir, name, text, strlen(text), 0600, false, e);
}

/* --- one answer ----------------------------------------------------------------------------------- */

enum {
	NVML_GPU_LOST = 15,
	NVML_RESET_REQUIRED = 16,
	NVML_MISMATCH = 18,
};

static void judge_code(struct look *l, int64_t code)
{
	const char *what = code == NVML_GPU_LOST         ? "the GPU has gone"
			   : code == NVML_RESET_REQUIRED ? "the GPU wants a reset"
			   : code == NVML_MISMATCH       ? "driver and library differ"
							 : NULL;

	if (what)
		snprintf(l->fault, sizeof(l->fault), "sick: %s (NVML error %lld)", what,
			 (long long)code);
}

static int judge(struct gpu_check *c, struct look *l, const json_t *o, const char *driver,
		 struct err *e)
{
	int64_t code = 0, used = -1, processes = -1;
	uint64_t base = 0;
	char more[32];
	int r = js_int(o, "code", INT32_MIN, INT32_MAX, &code, e);

	if (r == 0)
		r = js_opt_int(o, "used_bytes", 0, INT64_MAX, &used, e);
	if (r >= 0)
		r = js_opt_int(o, "processes", 0, 1 << 20, &processes, e);
	if (r < 0)
		return r;
	l->fault[0] = '\0';
	json_decref(l->state);
	l->state = json_deep_copy(o);
	judge_code(l, code);
	if (used < 0 || processes < 0 || code)
		return 0;
	c->known = true;
	r = baseline(c, l->gpu, driver, (uint64_t)used, processes == 0, &base, e);
	if (r < 0)
		return r;
	l->passing = true;
	if (processes)
		snprintf(l->fault, sizeof(l->fault), "leftover: %lld process%s on it",
			 (long long)processes, processes == 1 ? "" : "es");
	else if ((uint64_t)used > base + SLACK_BYTES)
		snprintf(l->fault, sizeof(l->fault), "leftover: %s of its memory in use",
			 str_size_text(more, sizeof(more), (uint64_t)used - base));
	return 0;
}

static int take_answer(struct gpu_check *c, struct err *e)
{
	const struct buf *b = NULL;
	json_auto_t *o = NULL;
	const char *driver = "";
	json_t *a = NULL;
	int r = gpu_answer(c->probe, &b, e);

	for (size_t i = 0; r < 0 && i < c->n; i++)
		snprintf(c->look[i].fault, sizeof(c->look[i].fault), "sick: %.120s", e->msg);
	if (r < 0)
		return 0;
	r = js_parse(b->data, b->len, 8, &o, e);
	if (r == 0)
		r = js_str(o, "driver", 64, &driver, e);
	if (r == 0)
		r = js_arr(o, "gpus", &a, e);
	if (r == 0 && json_array_size(a) != c->n)
		r = err_input(e, "zr-gpu answers for %zu GPUs", json_array_size(a));
	for (size_t i = 0; r == 0 && i < c->n; i++)
		r = judge(c, &c->look[i], json_array_get(a, i), driver, e);
	return r < 0 ? r : 1;
}

/* --- the way through ------------------------------------------------------------------------------ */

static bool may_pass(const struct gpu_check *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->look[i].fault[0] && c->look[i].passing)
			return true;
	return false;
}

int gpu_check_begin(const struct gpu_request *request, const struct gpu_hold *hold,
		    struct gpu_check **ret, struct err *e)
{
	auto_obj(gpu_check) c = calloc(1, sizeof(*c));
	const struct gpu *g;
	int r;

	if (!c || !(c->look = calloc(request->n + 1, sizeof(*c->look))))
		return err_nomem(e);
	c->request = request;
	c->settle_until = time_mono_usec() + request->settle_usec;
	c->pause_usec = PAUSE_USEC;
	for (; (g = gpu_hold_gpu(hold, c->n)); c->n++)
		c->look[c->n].gpu = g;
	r = ask(c, e);
	if (r == 0)
		*ret = take_ptr(c);
	return r;
}

void gpu_check_free(struct gpu_check *c)
{
	if (!c)
		return;
	gpu_probe_free(c->probe);
	for (size_t i = 0; c->look && i < c->n; i++)
		json_decref(c->look[i].state);
	free(c->look);
	free(c);
}

/* 1: it is the last one. */
static int finish_look(struct gpu_check *c, struct err *e)
{
	uint64_t now;
	int r = take_answer(c, e);

	gpu_probe_free(c->probe);
	c->probe = NULL;
	now = time_mono_usec();
	if (r <= 0)
		return r < 0 ? r : 1;
	if (!may_pass(c) || now >= c->settle_until)
		return 1;
	c->again_usec = now + c->pause_usec;
	c->pause_usec = c->pause_usec < PAUSE_MAX ? c->pause_usec * 2 : c->pause_usec;
	return 0;
}

int gpu_check_step(struct gpu_check *c, uint64_t *until, struct err *e)
{
	uint64_t now = time_mono_usec();
	int r = 0;

	if (!c->probe && now >= c->again_usec)
		r = ask(c, e);
	else if (c->probe && (gpu_probe_read(c->probe) || now >= c->asked_usec + GPU_PROBE_USEC))
		r = finish_look(c, e);
	*until = c->probe ? c->asked_usec + GPU_PROBE_USEC : c->again_usec;
	return r;
}

int gpu_check_fd(const struct gpu_check *c)
{
	return c->probe ? gpu_probe_fd(c->probe) : -1;
}

const char *gpu_check_fault(const struct gpu_check *c, size_t i)
{
	return i < c->n && c->look[i].fault[0] ? c->look[i].fault : NULL;
}

/* Why the clock of a GPU is lower than it could be, in NVML's bits; that it is idle is no reason. */
static json_t *throttle_names(const json_t *bits)
{
	static const char *const names[] = {
		[1] = "application-clocks", [2] = "power-cap",      [3] = "hardware-slowdown",
		[4] = "sync-boost",         [5] = "thermal",        [6] = "hardware-thermal",
		[7] = "power-brake",        [8] = "display-clocks",
	};
	json_t *a = json_is_integer(bits) ? json_array() : json_null();

	for (size_t i = 0; json_is_array(a) && i < ARRAY_LEN(names); i++)
		if (names[i] && json_integer_value(bits) & 1 << i &&
		    json_array_append_new(a, json_string(names[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

json_t *gpu_check_state(const struct gpu_check *c, size_t i)
{
	static const char *const numbers[] = { "sm_mhz", "memory_mhz", "temperature", "power_mw" };
	const json_t *from = i < c->n ? c->look[i].state : NULL;
	json_t *o = from ? json_pack("{s:s, s:o}", "uuid", c->look[i].gpu->uuid, "throttled",
				     throttle_names(json_object_get(from, "throttle")))
			 : NULL;

	for (size_t n = 0; o && n < ARRAY_LEN(numbers); n++) {
		json_t *v = json_object_get(from, numbers[n]);

		if (json_object_set_new(o, numbers[n],
					json_is_integer(v) ? json_incref(v) : json_null()) < 0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

const char *gpu_check_method(const struct gpu_check *c)
{
	return c->known ? "nvml" : "off";
}
