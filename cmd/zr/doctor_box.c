/* SPDX-License-Identifier: MIT */
/*
 * Which levels of isolation can this host honour, for this user? A real box of the level is run
 * around `true`: what a kernel, a container or a unit's settings forbid cannot be told from files.
 */
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/json.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/time.h"
#include "doctor.h"
#include "exec/journal.h"
#include "exec/spec.h"

enum {
	PATIENCE_MSEC = 10000,
};

static int fill_spec(struct box_spec *s, const char *dir, const char *id,
		     const struct cgroup_host *groups, struct err *e)
{
	s->evaluation = strdup("doctor");
	s->attempt = 1;
	s->attempt_id = strdup(id);
	s->evaluator = strdup("doctor");
	s->submission = strdup(dir);
	s->evaluator_dir = strdup(dir);
	s->limits = (struct limits){
		.wall_usec = { [PHASE_RUN] = 5 * USEC_PER_SEC },
		.memory_bytes = 64u << 20,
		.pids = 8,
		.disk_bytes = 1u << 20,
	};
	s->sandbox.level = ISOLATION_SANDBOX;
	if (!s->evaluation || !s->attempt_id || !s->evaluator || !s->submission ||
	    !s->evaluator_dir || str_fmt(&s->sealed_dir, "%s/sealed", dir) < 0 ||
	    strv_add(&s->argv[PHASE_RUN], "/usr/bin/true") < 0)
		return err_nomem(e);
	return cgroup_host_copy(groups, &s->cgroup, e);
}

/* Makes <dir>/spool/boxes/<id> with its spec.json. */
static int make_box(const char *dir, const char *id, const struct cgroup_host *groups, char **ret,
		    struct err *e)
{
	auto_spec s = calloc(1, sizeof(*s));
	auto_free char *text = NULL, *path = NULL;
	auto_close int fd = -1;
	int r = s ? fill_spec(s, dir, id, groups, e) : err_nomem(e);

	if (r == 0)
		r = spec_text(s, &text, e);
	if (r == 0 && str_fmt(&path, "%s/spool/boxes/%s", dir, id) < 0)
		r = err_nomem(e);
	if (r == 0)
		r = fd_make_dir(path, 0755, &fd, e);
	if (r == 0)
		r = fd_write_file(fd, SPEC_FILE, text, strlen(text), 0600, false, e);
	if (r == 0)
		*ret = take_ptr(path);
	return r;
}

static int run_keeper(char *box, struct err *e)
{
	auto_free char *program = NULL;
	auto_close int pidfd = -1;
	char name[] = "zr-box", *argv[] = { name, box, NULL };
	struct proc_spec p = { .argv = argv, .new_session = true };
	struct pollfd wait = { .events = POLLIN };
	siginfo_t si;
	pid_t pid;
	int r = proc_sister("zr-box", &program, e);

	if (r < 0)
		return r;
	p.path = program;
	r = proc_spawn(&p, &pid, &pidfd, e);
	if (r < 0)
		return r;
	wait.fd = pidfd;
	if (poll(&wait, 1, PATIENCE_MSEC) == 0)
		(void)proc_signal(pidfd, SIGTERM);
	return waitid(P_PID, (id_t)pid, &si, WEXITED) < 0 ? err_sys(e, "wait for zr-box") : 0;
}

/* What is not kept even so, as one text. */
static void missing_text(const json_t *isolation, char *out, size_t size)
{
	const json_t *gap;
	size_t i, n = 0;

	out[0] = '\0';
	json_array_foreach(json_object_get(isolation, "missing"), i, gap)
	{
		const char *what = json_string_value(json_object_get(gap, "what"));

		if (n < size)
			n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "",
					      what ? what : "?");
	}
}

static void judge(struct doctor *d, const struct box_result *r)
{
	const char *privilege = json_string_value(json_object_get(r->isolation, "privilege"));
	char missing[300];

	missing_text(r->isolation, missing, sizeof(missing));
	if (r->reason != BOX_OK)
		doctor_line(d, HEALTH_WARN, "sandbox",
			    "evaluators that ask for it fail on this host with that sentence; see "
			    "zr-box(8)",
			    "%s", r->detail ? r->detail : box_reason_name(r->reason));
	else
		doctor_line(d, HEALTH_OK, "sandbox", NULL, "works (%s)%s%s",
			    privilege ? privilege : "?", *missing ? "; without " : "", missing);
}

static int try_box(struct doctor *d, const char *dir, const struct cgroup_host *groups,
		   struct err *e)
{
	auto_done(journal) j = { .phase = PHASE_RUN };
	auto_free char *box = NULL;
	auto_close int fd = -1;
	char id[UUID_LEN + 1];
	int r = make_box(dir, id_uuid7(id), groups, &box, e);

	if (r == 0)
		r = run_keeper(box, e);
	if (r == 0)
		r = fd_open_dir(AT_FDCWD, box, &fd, e);
	if (r == 0)
		r = journal_read(fd, &j, e);
	if (r == 0 && !j.done)
		r = err_set(e, EIO, ERR_HOST, "zr-box left no result");
	if (r == 0)
		judge(d, &j.result);
	return r;
}

/* What its images need nobody can try beforehand. */
static void check_engine(struct doctor *d)
{
	static const char *const folders[] = { "", "/usr/local/bin/", "/usr/bin/", "/bin/" };
	const char *name = d->settings->container_engine;
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		if (!*folders[i] != (strchr(name, '/') != NULL))
			continue;
		snprintf(path, sizeof(path), "%s%s", folders[i], name);
		if (access(path, X_OK) < 0)
			continue;
		doctor_line(d, HEALTH_OK, "container", NULL, "%s", STR_ESC(path));
		return;
	}
	doctor_line(d, HEALTH_OK, "container", NULL,
		    "there is no %s: evaluators with isolation = \"container\" are refused",
		    STR_ESC(name));
}

void doctor_levels(struct doctor *d, const struct cgroup_host *groups)
{
	char dir[] = "/tmp/zr-doctor-XXXXXX";
	struct err e = { 0 };
	int r;

	if (!mkdtemp(dir))
		r = err_sys(&e, "make a folder in /tmp");
	else
		r = chmod(dir, 0755) < 0 ? err_sys(&e, "open %s", dir)
					 : try_box(d, dir, groups, &e);
	if (r < 0)
		doctor_line(d, HEALTH_WARN, "sandbox", NULL, "cannot be tried: %s", e.msg);
	(void)!fd_rmtree(AT_FDCWD, dir, NULL);
	check_engine(d);
}
