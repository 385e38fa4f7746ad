/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/fd.h"
#include "base/str.h"
#include "keeper.h"

/* Of a log the end is looked at: that is where an error is. */
#define TAIL_MAX (64 << 10)

/* What the driver, its runtime and those who build on them write when a GPU has no memory left. */
static const char *const phrases[] = {
	"CUDA out of memory",
	"OutOfMemoryError",
	"CUDA_ERROR_OUT_OF_MEMORY",
	"cudaErrorMemoryAllocation",
	"RESOURCE_EXHAUSTED: Out of memory",
	"CUBLAS_STATUS_ALLOC_FAILED",
	"CUDA error: out of memory",
};

static bool has_phrase(const char *text, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(phrases); i++)
		if (memmem(text, n, phrases[i], strlen(phrases[i])))
			return true;
	return false;
}

static bool log_tells(int dir, const char *name)
{
	auto_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_free char *tail = malloc(TAIL_MAX);
	struct stat st;
	ssize_t n;

	if (fd < 0 || !tail || fstat(fd, &st) < 0)
		return false;
	n = pread(fd, tail, TAIL_MAX, MAX(st.st_size - TAIL_MAX, 0));
	return n > 0 && has_phrase(tail, (size_t)n);
}

void gpus_judge_memory(struct keeper *k)
{
	size_t n = strlen(k->detail);

	if (!k->spec->gpus || !k->decided || (k->reason != BOX_EXIT && k->reason != BOX_SIGNAL))
		return;
	if (log_tells(k->dir, ERR_LOG_FILE) || log_tells(k->dir, OUT_LOG_FILE))
		snprintf(k->detail + n, sizeof(k->detail) - n,
			 "; by its log a GPU had no memory left");
}
