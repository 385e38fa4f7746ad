/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "keeper.h"

enum {
	CHUNK = 65536, /* what a pipe holds by default */
	/* After the last writer died a pipe holds this at most, unless a stranger was given its
	 * writing end and goes on. */
	DRAIN_MAX = 4 << 20,
};

static int open_pipe(int *ret_ours, int *ret_theirs, struct err *e)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe");
	*ret_ours = fd[0];
	*ret_theirs = fd[1];
	return fcntl(fd[0], F_SETFL, O_NONBLOCK) < 0 ? err_sys(e, "make a pipe") : 0;
}

int output_open(struct keeper *k, int child[IN_N], struct err *e)
{
	for (int i = 0; i < IN_N; i++) {
		int r = open_pipe(&k->in[i], &child[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

static void found_progress(struct keeper *k, enum input in)
{
	struct progress_feed *f = &k->feed[in];

	if (!f->fresh)
		return;
	f->fresh = false;
	control_progress(k, &f->last);
}

static void take(struct keeper *k, enum input in, const char *data, size_t n)
{
	progress_feed_add(&k->feed[in], data, n, time_mono_usec());
	found_progress(k, in);
	if (in == IN_PROGRESS)
		return;
	logfile_add(&k->log[in], data, n);
	control_tell(k, TELL_LOG);
	if (k->spec->log_stop && k->log[in].total > k->spec->log_cap)
		verdict(k, BOX_OUTPUT_LIMIT, "more than %llu bytes on standard %s",
			(unsigned long long)k->spec->log_cap, in == IN_OUT ? "output" : "error");
}

/* One chunk; false: nothing more for now, or for ever. */
static bool read_chunk(struct keeper *k, enum input in)
{
	static char chunk[CHUNK];
	ssize_t n = read(k->in[in], chunk, sizeof(chunk));

	if (n > 0) {
		take(k, in, chunk, (size_t)n);
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* The job may close its output and go on; only its leader's exit ends it. */
	close(k->in[in]);
	k->in[in] = -1;
	return false;
}

void output_read(struct keeper *k, enum input in)
{
	(void)read_chunk(k, in);
}

void output_drain(struct keeper *k)
{
	for (enum input in = IN_OUT; in <= IN_PROGRESS; in++) {
		for (size_t n = 0; k->in[in] >= 0 && n < DRAIN_MAX; n += CHUNK)
			if (!read_chunk(k, in))
				break;
		progress_feed_end(&k->feed[in]);
		found_progress(k, in);
	}
	for (enum input in = 0; in < IN_N; in++) {
		if (k->in[in] >= 0)
			close(k->in[in]);
		k->in[in] = -1;
	}
}
