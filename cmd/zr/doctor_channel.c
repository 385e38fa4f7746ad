/* SPDX-License-Identifier: MIT */
/* doctor: the folder that a worker of this host gets its requests from. */
#include "doctor.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/str.h"
#include "messaging/dirfile.h"

#define CHECK "channel"

/* -1: it cannot be read. */
static long long count(int root, const char *folder, const char *ending)
{
	auto_close int fd = openat(root, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_strv char **names = NULL;

	if (fd < 0 || dirfile_list(fd, ending, &names, NULL) < 0)
		return -1;
	return (long long)strv_len(names);
}

static bool is_of_other_hosts(int root)
{
	struct statfs s;

	if (fstatfs(root, &s) < 0)
		return false;
	return s.f_type == NFS_SUPER_MAGIC || s.f_type == FUSE_SUPER_MAGIC ||
	       s.f_type == SMB2_SUPER_MAGIC || s.f_type == CIFS_SUPER_MAGIC;
}

static bool check_parts(struct doctor *d, int root, const char *path)
{
	static const char *const parts[] = { "requests", "claimed", "events", "control",
					     "dead",     "workers", "live" };

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		if (faccessat(root, parts[i], R_OK | W_OK | X_OK, AT_EACCESS) == 0)
			continue;
		doctor_line(d, errno == ENOENT ? HEALTH_WARN : HEALTH_FAIL, CHECK,
			    errno == ENOENT ? "the first worker makes it"
					    : "give it to the worker's user or group",
			    "%s/%s: %s", path, parts[i], strerror(errno));
		return false;
	}
	return true;
}

bool doctor_channel(struct doctor *d)
{
	const char *path = settings_channel_folder(d->settings);
	auto_close int root = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	long long dead;

	if (!path)
		return false;
	if (root < 0) {
		doctor_line(d, errno == ENOENT ? HEALTH_WARN : HEALTH_FAIL, CHECK,
			    errno == ENOENT ? "the first worker makes it" : NULL, "%s: %s",
			    STR_ESC(path), strerror(errno));
		return true;
	}
	if (!check_parts(d, root, STR_ESC(path)))
		return true;
	dead = count(root, "dead", ".reason");
	if (dead > 0)
		doctor_line(d, HEALTH_WARN, CHECK, "see the reasons there, and remove them",
			    "%lld requests were refused and lie in %s/dead", dead, STR_ESC(path));
	doctor_line(d, HEALTH_OK, CHECK, NULL, "%s, %lld requests wait%s", STR_ESC(path),
		    count(root, "requests", ".json"),
		    is_of_other_hosts(root) ? "; what other hosts put there is seen every "
					      "channel_scan"
					    : "");
	return true;
}
