/* SPDX-License-Identifier: MIT */
#include "gpus.h"

#include "base/log.h"
#include "base/str.h"

/* An answer that is older is still given, but the driver is asked again. */
#define FRESH_USEC (60 * USEC_PER_SEC)

struct gpus {
	struct eval *ev;
	struct gpu_probe *probe; /* asking now; else NULL */
	struct loop_src *readable, *timer;
	struct gpu_list *list; /* the last answer, or NULL: */
	struct err why;
	bool known;
	uint64_t asked_usec;
};

static void take_answer(struct gpus *g)
{
	struct gpu_list *l = NULL;
	bool first = !g->known;
	int r = gpu_probe_end(g->probe, &l, &g->why);

	g->readable = loop_src_free(g->readable);
	loop_timer_set(g->timer, USEC_INFINITY);
	gpu_probe_free(g->probe);
	g->probe = NULL;
	gpu_list_free(g->list);
	g->list = l;
	g->known = true;
	if (r < 0)
		log_err("%s: evaluators that ask for GPUs are refused", g->why.msg);
	else if (l->state == GPUS_SICK)
		log_err("no GPU of this host can be used: %s", STR_ESC(l->error));
	else if (first && l->n)
		log_info("%zu GPUs%s", l->n, l->is_double ? " (fake)" : "");
	if (first)
		eval_update_intake(g->ev);
}

static void on_readable(void *user, unused_arg int fd, unused_arg uint32_t events)
{
	struct gpus *g = user;

	if (gpu_probe_read(g->probe))
		take_answer(g);
}

static void on_timer(void *user)
{
	struct gpus *g = user;

	if (g->probe)
		take_answer(g);
}

static int ask(struct gpus *g, struct err *e)
{
	int r = gpu_probe_begin(g->ev->settings->cuda_library, &g->probe, e);

	g->asked_usec = time_mono_usec();
	if (r == 0)
		r = loop_fd(g->ev->loop, gpu_probe_fd(g->probe), EPOLLIN, on_readable, g,
			    &g->readable, e);
	if (r == 0)
		loop_timer_set(g->timer, GPU_PROBE_USEC);
	return r;
}

int gpus_new(struct eval *ev, struct gpus **ret, struct err *e)
{
	struct gpus *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return err_nomem(e);
	g->ev = ev;
	r = loop_timer(ev->loop, USEC_INFINITY, on_timer, g, &g->timer, e);
	if (r < 0) {
		gpus_free(g);
		return r;
	}
	/* Without an answer there is other work to do. */
	if (ask(g, &g->why) < 0) {
		log_err("%s: evaluators that ask for GPUs are refused", g->why.msg);
		g->known = true;
	}
	*ret = g;
	return 0;
}

void gpus_free(struct gpus *g)
{
	if (!g)
		return;
	loop_src_free(g->readable);
	loop_src_free(g->timer);
	gpu_probe_free(g->probe);
	gpu_list_free(g->list);
	free(g);
}

bool gpus_are_known(const struct gpus *g)
{
	return g->known;
}

int gpus_list(struct gpus *g, const struct gpu_list **ret, struct err *e)
{
	struct err why = { 0 };

	if (!g->probe && time_mono_usec() - g->asked_usec > FRESH_USEC && ask(g, &why) < 0)
		log_warning("%s, keeping to the last answer", why.msg);
	if (!g->list)
		return err_set(e, ENODEV, ERR_HOST, "%s", g->why.msg);
	*ret = g->list;
	return 0;
}
