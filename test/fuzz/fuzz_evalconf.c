/* SPDX-License-Identifier: MIT */
/* evaluator.conf against a folder that has one program, run.sh. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "exec/evalconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/zr-fuzz-XXXXXX";

static void clean(void)
{
	(void)!fd_rmtree(AT_FDCWD, dir, NULL);
}

static int folder(void)
{
	static int fd = -1;

	if (fd < 0) {
		if (!mkdtemp(dir) || fd_open_dir(AT_FDCWD, dir, &fd, NULL) < 0 ||
		    fd_write_file(fd, "run.sh", "#!/bin/sh\n", 10, 0755, false, NULL) < 0)
			abort();
		atexit(clean);
	}
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct evaluator *ev = calloc(1, sizeof(*ev));
	struct err e = { 0 };
	json_t *j;

	if (!ev)
		return 0;
	ev->name = strdup("ev");
	ev->dir = strdup(dir);
	ev->file = strdup("ev/evaluator.conf");
	if (evalconf_defaults(ev, &e) == 0 &&
	    evalconf_read(ev, folder(), (const char *)data, size, &e) == 0) {
		j = evaluator_json(ev);
		if (!j || !ev->argv[PHASE_RUN])
			abort();
		json_decref(j);
	}
	evaluator_free(ev);
	return 0;
}
