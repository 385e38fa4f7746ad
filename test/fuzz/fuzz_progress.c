/* SPDX-License-Identifier: MIT */
/* Both kinds of progress stream, in two pieces; what is found must be in range and printable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "exec/progress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct progress *p)
{
	if (p->fraction > 1 || !str_utf8_valid(p->text, strlen(p->text)) ||
	    (p->total >= 0 && p->done < 0 && p->fraction >= 0 && p->done > p->total))
		abort();
	json_decref(progress_json(p));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct progress_feed f;
	size_t cut = size ? data[0] % size : 0;

	for (int source = PROGRESS_DESCRIPTOR; source <= PROGRESS_LOG; source++) {
		progress_feed_init(&f, (enum progress_source)source, NULL);
		progress_feed_add(&f, (const char *)data, cut, 1);
		progress_feed_add(&f, (const char *)data + cut, size - cut, 1);
		progress_feed_end(&f);
		if (f.fresh)
			check(&f.last);
	}
	return 0;
}
