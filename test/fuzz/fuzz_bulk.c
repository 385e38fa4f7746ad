/* SPDX-License-Identifier: MIT */
/* What an SFTP server sends to the reader of large files. What it gives must lie in its answer. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "transfer/bulk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct bulk_spec spec = {
		.path = "/pack", .size = 20, .wait_usec = 1000000, .abort_fd = -1
	};
	auto_obj(bulk) b = NULL;
	const void *p;
	int pair[2];
	size_t n;

	if (size > 65536)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
	    fd_write_all(pair[1], data, size) < 0 || shutdown(pair[1], SHUT_WR) < 0)
		abort();
	/* All that comes is there. */
	if (bulk_open(pair[0], &spec, &b, NULL) == 0 && bulk_ready(b, NULL) > 0 &&
	    bulk_read(b, 0, 20, &p, &n, NULL) == 0 && n != 20)
		abort();
	close(pair[1]);
	return 0;
}
