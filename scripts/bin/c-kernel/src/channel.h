/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_CHANNEL_H
#define KERNEL_CHANNEL_H

#include <stdint.h>

/*
 * What passes between the judge and a runner, the process that the submission's code runs in.
 *
 * Two memory files are mapped by both. The input file is read-only for the runner; it begins with an array of
 * `struct call`, behind it lie the inputs. The output file holds the results. One doorbell asks for `calls` kernel
 * calls in a row, one reply says that they are done. The judge believes nothing of a reply but that it came.
 */
#define CHANNEL_DIMS   4
#define CHANNEL_INPUTS 3
#define CHANNEL_CALLS  64
#define CHANNEL_GUARD  256 /* bytes on both sides of every buffer that belong to nobody */

/* Descriptors that the runner is born with; it closes the last two once they are mapped. */
enum {
	CHANNEL_DOORBELL = 3,
	CHANNEL_REPLY,
	CHANNEL_INPUT,
	CHANNEL_OUTPUT
};

/* A runner with memory of its own (a GPU's) copies in at LOAD and out at STORE, which are not timed. */
enum channel_op {
	CHANNEL_OP_RUN,
	CHANNEL_OP_LOAD,
	CHANNEL_OP_STORE
};

enum channel_status {
	CHANNEL_OK,
	CHANNEL_WROTE_INPUT, /* the kernel wrote into the input file */
	CHANNEL_BAD_ACCESS,  /* it touched memory that is not there */
	CHANNEL_DEVICE, /* the device reported a failure; the runner wrote its text to stderr */
};

struct call {
	int32_t dim[CHANNEL_DIMS];
	uint64_t in[CHANNEL_INPUTS]; /* offsets in the input file, bytes */
	uint64_t in_len[CHANNEL_INPUTS];
	uint64_t out; /* offset in the output file, bytes */
	uint64_t out_len;
};

struct doorbell {
	uint64_t nonce; /* random; a reply must repeat it, so none can be written in advance */
	uint32_t op;
	uint32_t calls;
};

struct reply {
	uint64_t nonce;
	uint32_t status;
	uint32_t reserved;
	double device_ms; /* what a device's own clock says about RUN, else 0; shown, never scored */
};

/* Written once for each task (glue.c): calls the submission's function on one call's memory. */
void glue_call(const int32_t *dim, const float *const *in, float *out);

#endif
