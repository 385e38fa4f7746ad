/* SPDX-License-Identifier: MIT */
#include "parts.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fd.h"
#include "base/str.h"

#define MIG_MINORS     "/proc/driver/nvidia-caps/mig-minors"
#define MIG_MINORS_MAX (1u << 20)

/* Names are UUIDs or their beginnings. */
static bool names_only(const char *list)
{
	for (const char *p = list; *p; p += strcspn(p, ",")) {
		p += *p == ',';
		if (strncasecmp(p, "GPU-", 4) != 0 && strncasecmp(p, "MIG-", 4) != 0)
			return false;
	}
	return true;
}

static bool is_named(const char *list, const struct nvml_device *d)
{
	for (const char *p = list; *p; p += strcspn(p, ",")) {
		size_t n;

		p += *p == ',';
		n = strcspn(p, ",");
		if (n <= strlen(d->uuid) && strncasecmp(p, d->uuid, n) == 0)
			return true;
	}
	return false;
}

size_t parts_list(const char *nvml, struct nvml_device **ret)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	size_t n = 0, of = nvml_list(nvml, ret);
	bool parts = false;

	for (size_t i = 0; i < of; i++)
		parts = parts || (*ret)[i].parent[0];
	if (!parts || (visible && !names_only(visible)))
		return 0;
	for (size_t i = 0; i < of; i++)
		if (!visible || is_named(visible, &(*ret)[i]))
			(*ret)[n++] = (*ret)[i];
	return n;
}

/* The lines are such as "gpu0/gi1/ci0/access 13". */
static int find_minor(const struct buf *b, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = b->data; p && *p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, name, n) == 0 && p[n] == ' ' && p[n + 1] >= '0' && p[n + 1] <= '9')
			return atoi(p + n + 1);
	}
	return -1;
}

json_t *parts_caps(const struct nvml_device *d)
{
	auto_buf struct buf b = { 0 };
	char gi[64], ci[64];
	int caps[2];

	if (!d->parent[0] || d->now.node < 0 || d->gi < 0 || d->ci < 0 ||
	    fd_read_file(AT_FDCWD, MIG_MINORS, MIG_MINORS_MAX, &b, NULL) < 0)
		return json_null();
	snprintf(gi, sizeof(gi), "gpu%d/gi%d/access", d->now.node, d->gi);
	snprintf(ci, sizeof(ci), "gpu%d/gi%d/ci%d/access", d->now.node, d->gi, d->ci);
	caps[0] = find_minor(&b, gi);
	caps[1] = find_minor(&b, ci);
	return caps[0] < 0 || caps[1] < 0 ? json_null() : json_pack("[i, i]", caps[0], caps[1]);
}
