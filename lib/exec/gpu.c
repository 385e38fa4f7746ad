/* SPDX-License-Identifier: MIT */
#include "exec/gpu.h"

#include <ctype.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"

#define ANSWER_MAX (1u << 20)
#define REAP_MSEC  1000

/* --- kinds --------------------------------------------------------------------------------------- */

static const struct {
	unsigned major, minor; /* minor 99: all that are not listed */
	const char *name;
} archs[] = {
	{ 7, 5, "Turing" },      { 7, 99, "Volta" },      { 8, 9, "Ada" },
	{ 8, 99, "Ampere" },     { 9, 99, "Hopper" },     { 10, 99, "Blackwell" },
	{ 11, 99, "Blackwell" }, { 12, 99, "Blackwell" },
};

char *gpu_arch(char out[GPU_ARCH_MAX], unsigned major, unsigned minor)
{
	for (size_t i = 0; i < ARRAY_LEN(archs); i++)
		if (archs[i].major == major && (archs[i].minor == minor || archs[i].minor == 99)) {
			snprintf(out, GPU_ARCH_MAX, "%s", archs[i].name);
			return out;
		}
	snprintf(out, GPU_ARCH_MAX, "sm_%u%u", major % 1000, minor % 1000);
	return out;
}

bool gpu_matches(const struct gpu *g, const char *arch, uint64_t memory_bytes)
{
	char name[GPU_ARCH_MAX], number[GPU_ARCH_MAX];

	snprintf(number, sizeof(number), "sm_%u%u", g->major % 1000, g->minor % 1000);
	if (arch && strcasecmp(arch, gpu_arch(name, g->major, g->minor)) != 0 &&
	    strcasecmp(arch, number) != 0)
		return false;
	return g->memory_bytes >= memory_bytes - memory_bytes / 16;
}

const char *gpu_arch_fault(const char *arch)
{
	if (strncasecmp(arch, "sm_", 3) == 0 && arch[3] &&
	    strspn(arch + 3, "0123456789") == strlen(arch + 3))
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(archs); i++)
		if (strcasecmp(arch, archs[i].name) == 0)
			return NULL;
	return "want Volta, Turing, Ampere, Ada, Hopper, Blackwell or a number such as sm_90";
}

/* --- JSON ---------------------------------------------------------------------------------------- */

void gpu_list_free(struct gpu_list *l)
{
	if (!l)
		return;
	free(l->error);
	free(l->driver);
	free(l->gpu);
	free(l);
}

static json_t *known(uint64_t v)
{
	return v == GPU_UNKNOWN ? json_null() : json_integer((json_int_t)v);
}

json_t *gpu_json(const struct gpu *g)
{
	char arch[GPU_ARCH_MAX], cc[24];

	snprintf(cc, sizeof(cc), "%u.%u", g->major, g->minor);
	return json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:b, s:s?, s:o, s:o, s:s, s:o, s:o}",
			 "index", (int)g->index, "uuid", g->uuid, "name", g->name, "architecture",
			 gpu_arch(arch, g->major, g->minor), "compute_capability", cc,
			 "memory_bytes", (json_int_t)g->memory_bytes, "mig", g->parent[0] != '\0',
			 "parent", g->parent[0] ? g->parent : NULL, "caps",
			 g->caps[0] < 0 ? json_null() : json_pack("[i, i]", g->caps[0], g->caps[1]),
			 "node", g->node < 0 ? json_null() : json_integer(g->node), "compute_mode",
			 g->prohibited ? "prohibited" : "default", "used_bytes",
			 known(g->used_bytes), "processes", known(g->processes));
}

/* It becomes the name of a file and a part of a list. */
static int take_uuid(const json_t *o, const char *key, char *out, struct err *e)
{
	const char *s = NULL;
	int r = js_opt_str(o, key, GPU_UUID_MAX - 1, &s, e);

	if (r <= 0)
		return r;
	if (strlen(s) < 5 || (strncmp(s, "GPU-", 4) != 0 && strncmp(s, "MIG-", 4) != 0) ||
	    strspn(s + 4, "0123456789abcdefABCDEF-") != strlen(s + 4))
		return err_input(e, "'%s' is no UUID of a GPU: '%s'", key, STR_ESC(s));
	snprintf(out, GPU_UUID_MAX, "%s", s);
	return 1;
}

static int take_numbers(const json_t *o, struct gpu *g, struct err *e)
{
	int64_t index = 0, memory = 0, node = -1, used = -1, processes = -1;
	int r = js_int(o, "index", 0, 4096, &index, e);

	if (r == 0)
		r = js_int(o, "memory_bytes", 0, INT64_MAX, &memory, e);
	if (r == 0)
		r = js_opt_int(o, "node", 0, 4096, &node, e);
	if (r >= 0)
		r = js_opt_int(o, "used_bytes", 0, INT64_MAX, &used, e);
	if (r >= 0)
		r = js_opt_int(o, "processes", 0, INT64_MAX, &processes, e);
	if (r < 0)
		return r;
	g->index = (unsigned)index;
	g->memory_bytes = (uint64_t)memory;
	g->node = (int)node;
	g->used_bytes = used < 0 ? GPU_UNKNOWN : (uint64_t)used;
	g->processes = processes < 0 ? GPU_UNKNOWN : (uint64_t)processes;
	return 0;
}

static int take_caps(const json_t *o, struct gpu *g, struct err *e)
{
	const json_t *a = json_object_get(o, "caps");

	g->caps[0] = g->caps[1] = -1;
	if (!a || json_is_null(a))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(g->caps); i++) {
		const json_t *n = json_array_get(a, i);

		if (json_array_size(a) != ARRAY_LEN(g->caps) || !json_is_integer(n) ||
		    json_integer_value(n) < 0 || json_integer_value(n) > 1 << 20)
			return err_input(e, "'caps' is not two numbers of devices");
		g->caps[i] = (int)json_integer_value(n);
	}
	return 0;
}

static int take_texts(const json_t *o, struct gpu *g, struct err *e)
{
	const char *name = "", *cc = "", *mode = "";
	int r = js_str(o, "name", sizeof(g->name) - 1, &name, e);

	if (r == 0)
		r = js_str(o, "compute_capability", 16, &cc, e);
	if (r == 0)
		r = js_opt_str(o, "compute_mode", 32, &mode, e);
	if (r < 0)
		return r;
	if (sscanf(cc, "%3u.%3u", &g->major, &g->minor) != 2)
		return err_input(e, "'compute_capability' is '%s'", STR_ESC(cc));
	snprintf(g->name, sizeof(g->name), "%s", name);
	g->prohibited = str_eq(mode, "prohibited");
	return 0;
}

int gpu_from_json(const json_t *o, struct gpu *ret, struct err *e)
{
	struct gpu g = { .node = -1 };
	int r = json_is_object(o) ? take_uuid(o, "uuid", g.uuid, e)
				  : err_input(e, "a GPU is not an object");

	if (r == 0)
		r = err_input(e, "a GPU has no 'uuid'");
	if (r > 0)
		r = take_uuid(o, "parent", g.parent, e);
	if (r >= 0)
		r = take_numbers(o, &g, e);
	if (r == 0)
		r = take_caps(o, &g, e);
	if (r == 0)
		r = take_texts(o, &g, e);
	if (r == 0)
		*ret = g;
	return r;
}

static int take_gpus(const json_t *o, const char *key, struct gpu **ret, size_t *ret_n,
		     struct err *e)
{
	json_t *a = NULL;
	int r = js_arr(o, key, &a, e);
	size_t n = r == 0 ? json_array_size(a) : 0;

	if (r < 0)
		return r;
	if (n > GPU_MAX)
		return err_input(e, "more than %d GPUs", GPU_MAX);
	*ret = calloc(n + 1, sizeof(**ret));
	if (!*ret)
		return err_nomem(e);
	for (size_t i = 0; i < n && r == 0; i++)
		r = gpu_from_json(json_array_get(a, i), &(*ret)[i], e);
	*ret_n = n;
	return r;
}

static int take_list(const json_t *o, struct gpu_list *l, struct err *e)
{
	const char *state = "", *error = NULL, *driver = NULL;
	int r = js_str(o, "state", 16, &state, e);

	if (r == 0)
		r = js_opt_str(o, "error", 1024, &error, e);
	if (r >= 0)
		r = js_opt_str(o, "cuda", 24, &driver, e);
	if (r >= 0)
		r = js_opt_bool(o, "double", &l->is_double, e);
	if (r < 0)
		return r;
	l->state = str_eq(state, "ready")  ? GPUS_READY
		   : str_eq(state, "none") ? GPUS_NONE
					   : GPUS_SICK;
	l->error = error                    ? strdup(error)
		   : l->state == GPUS_READY ? NULL
					    : strdup("it says not why");
	l->driver = driver ? strdup(driver) : NULL;
	return take_gpus(o, "gpus", &l->gpu, &l->n, e);
}

int gpu_parse(const void *data, size_t n, struct gpu_list **ret, struct err *e)
{
	json_auto_t *o = NULL;
	auto_obj(gpu_list) l = calloc(1, sizeof(*l));
	int r = l ? js_parse(data, n, 8, &o, e) : err_nomem(e);

	if (r == 0)
		r = take_list(o, l, e);
	if (r < 0)
		return r;
	*ret = take_ptr(l);
	return 0;
}

/* --- asking -------------------------------------------------------------------------------------- */

struct gpu_probe {
	int pidfd, out;
	struct buf answer;
	bool complete;
};

/* Of our own environment, what tells the library where it is and which GPUs are ours. */
static int probe_env(char ***env)
{
	static const char *const names[] = { "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "PATH" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *v = getenv(names[i]);

		if (v && strv_addf(env, "%s=%s", names[i], v) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int probe_spawn(struct gpu_probe *p, char *const *words, struct err *e)
{
	auto_close int in = -1;
	auto_free char *path = NULL;
	auto_strv char **argv = NULL, **env = NULL;
	int ends[2], r = proc_sister("zr-gpu", &path, e);
	pid_t pid;

	if (r < 0)
		return r;
	if (strv_add(&argv, "zr-gpu") < 0 || probe_env(&env) < 0)
		return err_nomem(e);
	for (; *words; words++)
		if (strv_add(&argv, *words) < 0)
			return err_nomem(e);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "make a pipe");
	p->out = ends[0];
	in = ends[1];
	return proc_spawn(&(struct proc_spec){ .path = path,
					       .argv = argv,
					       .envp = env,
					       .fds = &(struct proc_fd){ in, 1 },
					       .n_fds = 1,
					       .new_session = true },
			  &pid, &p->pidfd, e);
}

int gpu_ask(char *const *words, struct gpu_probe **ret, struct err *e)
{
	struct gpu_probe *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return err_nomem(e);
	p->pidfd = p->out = -1;
	r = probe_spawn(p, words, e);
	if (r < 0) {
		gpu_probe_free(p);
		return err_wrap(e, "ask for the GPUs");
	}
	*ret = p;
	return 0;
}

int gpu_probe_begin(const char *library, struct gpu_probe **ret, struct err *e)
{
	auto_strv char **words = NULL;

	if (strv_add(&words, "--probe") < 0 || (library && strv_add(&words, library) < 0))
		return err_nomem(e);
	return gpu_ask(words, ret, e);
}

int gpu_probe_fd(const struct gpu_probe *p)
{
	return p->out;
}

int gpu_probe_read(struct gpu_probe *p)
{
	char part[4096];
	ssize_t n;

	while ((n = read(p->out, part, sizeof(part))) > 0)
		if (p->answer.len + (size_t)n > ANSWER_MAX ||
		    buf_add(&p->answer, part, (size_t)n) < 0)
			return 1;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	p->complete = n == 0;
	return 1;
}

/* One in the driver does not even die: it is left to itself. */
static void probe_reap(struct gpu_probe *p)
{
	struct pollfd f = { .fd = p->pidfd, .events = POLLIN };
	siginfo_t si = { 0 };

	if (p->pidfd < 0)
		return;
	if (!p->complete)
		(void)proc_signal(p->pidfd, SIGKILL);
	(void)poll(&f, 1, REAP_MSEC);
	(void)waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED | WNOHANG);
	close(p->pidfd);
	p->pidfd = -1;
}

int gpu_answer(struct gpu_probe *p, const struct buf **ret, struct err *e)
{
	probe_reap(p);
	if (!p->complete)
		return err_set(e, ETIMEDOUT, ERR_HOST,
			       "the GPUs are not known: the driver has not answered in %u s",
			       (unsigned)(GPU_PROBE_USEC / USEC_PER_SEC));
	if (!p->answer.len)
		return err_set(
			e, EIO, ERR_HOST,
			"the GPUs are not known: the driver's library ended the process that "
			"asked it");
	*ret = &p->answer;
	return 0;
}

int gpu_probe_end(struct gpu_probe *p, struct gpu_list **ret, struct err *e)
{
	const struct buf *b = NULL;
	int r = gpu_answer(p, &b, e);

	return r < 0 ? r : gpu_parse(b->data, b->len, ret, e);
}

void gpu_probe_free(struct gpu_probe *p)
{
	if (!p)
		return;
	probe_reap(p);
	if (p->out >= 0)
		close(p->out);
	buf_done(&p->answer);
	free(p);
}

int gpu_probe(const char *library, struct gpu_list **ret, struct err *e)
{
	uint64_t until = time_mono_usec() + GPU_PROBE_USEC;
	struct gpu_probe *p = NULL;
	int r = gpu_probe_begin(library, &p, e);

	if (r < 0)
		return r;
	while (!gpu_probe_read(p) && time_mono_usec() < until) {
		struct pollfd f = { .fd = p->out, .events = POLLIN };

		(void)poll(&f, 1, (int)((until - time_mono_usec()) / USEC_PER_MSEC) + 1);
	}
	r = gpu_probe_end(p, ret, e);
	gpu_probe_free(p);
	return r;
}

/* --- requests ------------------------------------------------------------------------------------ */

void gpu_request_free(struct gpu_request *r)
{
	if (!r)
		return;
	free(r->lock_dir);
	free(r->index_lock_dir);
	free(r->library);
	free(r->gpu);
	free(r);
}

static int take_folder(const json_t *o, const char *key, char **ret, struct err *e)
{
	const char *s = NULL;
	int r = js_opt_str(o, key, 4095, &s, e);

	if (r <= 0)
		return r;
	if (s[0] != '/')
		return err_input(e, "'%s' is no absolute path", key);
	*ret = strdup(s);
	return *ret ? 1 : err_nomem(e);
}

static int take_request(const json_t *o, struct gpu_request *q, struct err *e)
{
	int64_t count = 0, wait = 0, settle = 0;
	int r = js_int(o, "count", 1, GPU_MAX, &count, e);

	if (r == 0)
		r = js_opt_int(o, "wait_usec", 0, INT64_MAX, &wait, e);
	if (r >= 0)
		r = js_opt_bool(o, "double", &q->is_double, e);
	if (r >= 0)
		r = js_opt_int(o, "settle_usec", 0, INT64_MAX, &settle, e);
	if (r >= 0)
		r = take_folder(o, "library", &q->library, e);
	if (r >= 0)
		r = take_folder(o, "index_lock_dir", &q->index_lock_dir, e);
	if (r >= 0)
		r = take_folder(o, "lock_dir", &q->lock_dir, e);
	if (r == 0)
		r = err_input(e, "'lock_dir' is missing");
	if (r > 0)
		r = take_gpus(o, "list", &q->gpu, &q->n, e);
	q->count = (uint64_t)count;
	q->wait_usec = (uint64_t)wait;
	q->settle_usec = (uint64_t)settle;
	if (r == 0 && q->n < q->count)
		r = err_input(e, "fewer GPUs than asked for");
	return r;
}

int gpu_request_from_json(const json_t *o, struct gpu_request **ret, struct err *e)
{
	auto_obj(gpu_request) q = calloc(1, sizeof(*q));
	int r = q ? take_request(o, q, e) : err_nomem(e);

	if (r < 0)
		return err_wrap(e, "gpus");
	*ret = take_ptr(q);
	return 0;
}

json_t *gpu_request_json(const struct gpu_request *q)
{
	json_t *list = json_array();
	int r = list ? 0 : -1;

	for (size_t i = 0; i < q->n && r == 0; i++)
		r = json_array_append_new(list, gpu_json(&q->gpu[i]));
	if (r < 0) {
		json_decref(list);
		return NULL;
	}
	return json_pack("{s:I, s:I, s:s, s:s*, s:s*, s:I, s:b, s:o}", "count",
			 (json_int_t)q->count, "wait_usec", (json_int_t)q->wait_usec, "lock_dir",
			 q->lock_dir, "index_lock_dir", q->index_lock_dir, "library", q->library,
			 "settle_usec", (json_int_t)q->settle_usec, "double", q->is_double, "list",
			 list);
}

static int too_few(const struct gpu_list *l, const struct gpu_request *q, const char *who,
		   const char *arch, uint64_t memory_bytes, struct err *e)
{
	char memory[32] = "";

	if (memory_bytes)
		str_size_text(memory, sizeof(memory), memory_bytes);
	if (l->state != GPUS_READY)
		return err_set(
			e, ENODEV, ERR_HOST,
			"%s asks for %llu GPU%s, and this host has none that can be used: %s", who,
			(unsigned long long)q->count, q->count == 1 ? "" : "s", l->error);
	return err_set(e, ENODEV, ERR_HOST,
		       "%s asks for %llu GPU%s%s%s%s%s, and of the %zu of this host %zu fit; "
		       "'zr gpus' shows them",
		       who, (unsigned long long)q->count, q->count == 1 ? "" : "s",
		       arch ? " of architecture " : "", arch ? STR_ESC(arch) : "",
		       memory_bytes ? " with " : "", memory, l->n, q->n);
}

int gpu_request_new(const struct gpu_list *l, const char *who, uint64_t count, const char *arch,
		    uint64_t memory_bytes, struct gpu_request **ret, struct err *e)
{
	auto_obj(gpu_request) q = calloc(1, sizeof(*q));

	if (!q || !(q->gpu = calloc(l->n + 1, sizeof(*q->gpu))))
		return err_nomem(e);
	q->count = count;
	q->is_double = l->is_double;
	for (size_t i = 0; i < l->n; i++)
		if (!l->gpu[i].prohibited && gpu_matches(&l->gpu[i], arch, memory_bytes))
			q->gpu[q->n++] = l->gpu[i];
	if (q->n < count)
		return too_few(l, q, who, arch, memory_bytes, e);
	*ret = take_ptr(q);
	return 0;
}
