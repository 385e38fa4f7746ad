/* SPDX-License-Identifier: MIT */
#include "ledger.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"

#define PRUNE_USEC   (3600 * USEC_PER_SEC)
#define USEC_PER_DAY (24 * 3600 * USEC_PER_SEC)
#define LINE         (UUID_LEN + 1)
#define NAME_LEN     (UUID_LEN + 24)

struct ledger {
	int dirfd;
	char boot[UUID_LEN + 1];
	uint64_t day; /* of the open file */
	int fd;
	struct loop_src *timer;
};

/* Counted from the boot, of which alone anything is kept: a wall clock that jumps ages nothing. */
static uint64_t today(void)
{
	return time_boot_usec() / USEC_PER_DAY + 1;
}

/* The day of a file of this boot; 0 of any other. */
static uint64_t day_of(const struct ledger *g, const char *name)
{
	if (strncmp(name, g->boot, UUID_LEN) != 0 || name[UUID_LEN] != '.')
		return 0;
	return strtoull(name + UUID_LEN + 1, NULL, 10);
}

static DIR *open_folder(const struct ledger *g)
{
	int fd = openat(g->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		close(fd);
	return d;
}

static bool is_old(const struct ledger *g, const char *name)
{
	uint64_t day = day_of(g, name);

	return !day || day + LEDGER_KEEP_DAYS < today();
}

static void prune(const struct ledger *g)
{
	DIR *d = open_folder(g);
	struct dirent *de;

	if (!d)
		log_warning("old claims are not removed: %m");
	while (d && (de = readdir(d)))
		if (de->d_name[0] != '.' && is_old(g, de->d_name))
			(void)unlinkat(g->dirfd, de->d_name, 0);
	if (d)
		closedir(d);
}

static void on_timer(void *user)
{
	struct ledger *g = user;

	prune(g);
	loop_timer_set(g->timer, PRUNE_USEC);
}

int ledger_new(struct loop *l, const char *state_dir, struct ledger **ret, struct err *e)
{
	struct ledger *g = calloc(1, sizeof(*g));
	auto_free char *path = NULL;
	int r;

	if (!g)
		return err_nomem(e);
	g->dirfd = g->fd = -1;
	r = str_fmt(&path, "%s/spool/claimed", state_dir) < 0
		    ? err_nomem(e)
		    : fd_make_dir(path, 0700, &g->dirfd, e);
	if (r == 0)
		r = id_boot(g->boot, e);
	if (r == 0)
		r = loop_timer(l, 0, on_timer, g, &g->timer, e);
	if (r < 0) {
		ledger_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

void ledger_free(struct ledger *g)
{
	if (!g)
		return;
	loop_src_free(g->timer);
	if (g->fd >= 0)
		close(g->fd);
	if (g->dirfd >= 0)
		close(g->dirfd);
	free(g);
}

static int open_today(struct ledger *g, struct err *e)
{
	char name[NAME_LEN];

	if (g->fd >= 0 && g->day == today())
		return 0;
	if (g->fd >= 0)
		close(g->fd);
	g->day = today();
	snprintf(name, sizeof(name), "%s.%" PRIu64, g->boot, g->day);
	g->fd = openat(g->dirfd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
		       0600);
	return g->fd < 0 ? err_sys(e, "open %s of the claimed requests", name) : 0;
}

/* All workers of the host write to the same file: both records are one write. */
int ledger_add(struct ledger *g, const char *request, const char *attempt, struct err *e)
{
	char lines[2 * LINE + 1];
	int r = open_today(g, e);

	if (r < 0)
		return r;
	snprintf(lines, sizeof(lines), "%s\n%s\n", request, attempt);
	r = fd_write_all(g->fd, lines, strlen(lines));
	return r < 0 ? err_errno(e, r, "note the claim of request %s", request) : 0;
}

static bool file_has(const struct ledger *g, const char *name, const char *id)
{
	auto_close int fd = openat(g->dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_fclose FILE *f = fd < 0 ? NULL : fdopen(fd, "re");
	char line[LINE];

	if (f)
		(void)take_fd(fd);
	while (f && fread(line, LINE, 1, f) == 1)
		if (memcmp(line, id, UUID_LEN) == 0)
			return true;
	return false;
}

bool ledger_has(const struct ledger *g, const char *id)
{
	DIR *d = open_folder(g);
	struct dirent *de;
	bool has = false;

	while (d && !has && (de = readdir(d)))
		has = day_of(g, de->d_name) && file_has(g, de->d_name, id);
	if (d)
		closedir(d);
	return has;
}
