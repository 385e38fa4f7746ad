/* SPDX-License-Identifier: MIT */
/*
 * The process that a CUDA kernel runs in. As c-kernel's runner it waits for doorbells and replies; its arrays live
 * in device memory at the same offsets as in the shared files. LOAD copies a round in, guard zones and all, and empties
 * the device's cache; RUN is what the judge measures; STORE copies the results out. Nothing here is trusted.
 *
 * `runner probe` only tells whether there is a device: exit status 0, or 77 and one sentence on stderr.
 */
#include <cuda_runtime.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.h"

#define EXIT_NO_DEVICE 77

struct mirror {
	char *host, *device;
	size_t size;
};

struct runner {
	struct mirror input, output;
	void *flush; /* written to push everything else out of the cache */
	size_t flush_size;
	cudaEvent_t start, stop;
	double device_ms;
};

/* To stderr, which is the file submission.log. */
static bool ok(cudaError_t error, const char *what)
{
	if (error == cudaSuccess)
		return true;
	(void)fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
	return false;
}

static bool map(struct mirror *m, int fd, int protection)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return false;
	m->size = (size_t)st.st_size;
	p = mmap(NULL, m->size, protection, MAP_SHARED, fd, 0);
	(void)close(fd);
	m->host = static_cast<char *>(p);
	return p != MAP_FAILED &&
	       ok(cudaMalloc(reinterpret_cast<void **>(&m->device), m->size), "cudaMalloc");
}

/* Twice the second-level cache, so that nothing of an earlier round stays in it. */
static bool prepare_flush(struct runner *r)
{
	struct cudaDeviceProp prop;

	if (!ok(cudaGetDeviceProperties(&prop, 0), "cudaGetDeviceProperties"))
		return false;
	r->flush_size = 2 * static_cast<size_t>(prop.l2CacheSize) + 4096;
	return ok(cudaMalloc(&r->flush, r->flush_size), "cudaMalloc");
}

static bool prepare(struct runner *r)
{
	return map(&r->input, CHANNEL_INPUT, PROT_READ) &&
	       map(&r->output, CHANNEL_OUTPUT, PROT_READ | PROT_WRITE) && prepare_flush(r) &&
	       ok(cudaEventCreate(&r->start), "cudaEventCreate") &&
	       ok(cudaEventCreate(&r->stop), "cudaEventCreate");
}

/* How much of the two files this round uses. The judge keeps a guard zone behind the last buffer. */
static void used(const struct runner *r, unsigned calls, size_t *ret_input, size_t *ret_output)
{
	const struct call *call = reinterpret_cast<const struct call *>(r->input.host);
	size_t input = 0, output = 0;

	for (unsigned c = 0; c < calls; c++) {
		for (int i = 0; i < CHANNEL_INPUTS; i++)
			if (call[c].in[i] + call[c].in_len[i] > input)
				input = call[c].in[i] + call[c].in_len[i];
		if (call[c].out + call[c].out_len > output)
			output = call[c].out + call[c].out_len;
	}
	input += CHANNEL_GUARD;
	output += CHANNEL_GUARD;
	*ret_input = input < r->input.size ? input : r->input.size;
	*ret_output = output < r->output.size ? output : r->output.size;
}

static bool load(struct runner *r, unsigned calls)
{
	size_t input, output;

	used(r, calls, &input, &output);
	return ok(cudaMemcpy(r->input.device, r->input.host, input, cudaMemcpyHostToDevice),
		  "copy of inputs") &&
	       ok(cudaMemcpy(r->output.device, r->output.host, output, cudaMemcpyHostToDevice),
		  "copy of guards") &&
	       ok(cudaMemset(r->flush, 1, r->flush_size), "cudaMemset") &&
	       ok(cudaCtxResetPersistingL2Cache(), "cudaCtxResetPersistingL2Cache") &&
	       ok(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

static bool run(struct runner *r, unsigned calls)
{
	const struct call *call = reinterpret_cast<const struct call *>(r->input.host);
	float ms = 0;

	if (!ok(cudaEventRecord(r->start), "cudaEventRecord"))
		return false;
	for (unsigned c = 0; c < calls; c++) {
		const float *in[CHANNEL_INPUTS];

		for (int i = 0; i < CHANNEL_INPUTS; i++)
			in[i] = reinterpret_cast<const float *>(r->input.device + call[c].in[i]);
		glue_call(call[c].dim, in,
			  reinterpret_cast<float *>(r->output.device + call[c].out));
	}
	/* A launch that was refused says so here, a kernel that failed at the wait for the whole device. */
	if (!ok(cudaGetLastError(), "launch") || !ok(cudaEventRecord(r->stop), "cudaEventRecord") ||
	    !ok(cudaDeviceSynchronize(), "kernel") ||
	    !ok(cudaEventElapsedTime(&ms, r->start, r->stop), "events"))
		return false;
	r->device_ms = static_cast<double>(ms);
	return true;
}

static bool store(struct runner *r, unsigned calls)
{
	size_t input, output;

	used(r, calls, &input, &output);
	return ok(cudaMemcpy(r->output.host, r->output.device, output, cudaMemcpyDeviceToHost),
		  "copy of results");
}

static bool serve(struct runner *r, const struct doorbell *bell)
{
	unsigned calls = bell->calls < CHANNEL_CALLS ? bell->calls : CHANNEL_CALLS;

	if (bell->op == CHANNEL_OP_LOAD)
		return load(r, calls);
	return bell->op == CHANNEL_OP_STORE ? store(r, calls) : run(r, calls);
}

static bool reply(const struct runner *r, uint64_t nonce, enum channel_status status)
{
	struct reply answer = {};

	answer.nonce = nonce;
	answer.status = status;
	answer.device_ms = r->device_ms;
	return write(CHANNEL_REPLY, &answer, sizeof answer) == static_cast<ssize_t>(sizeof answer);
}

static int probe(void)
{
	struct cudaDeviceProp prop;
	int n = 0;
	cudaError_t error = cudaGetDeviceCount(&n);

	if (error == cudaSuccess && n == 0)
		error = cudaErrorNoDevice;
	if (error == cudaSuccess)
		error = cudaGetDeviceProperties(&prop, 0);
	if (error != cudaSuccess) {
		(void)fprintf(stderr, "this host has no usable CUDA GPU: %s\n",
			      cudaGetErrorString(error));
		return EXIT_NO_DEVICE;
	}
	(void)printf("%s, compute capability %d.%d\n", prop.name, prop.major, prop.minor);
	return 0;
}

int main(int argc, char **argv)
{
	struct runner r = {};
	struct doorbell bell;
	bool ready;
	ssize_t n;

	if (argc > 1 && strcmp(argv[1], "probe") == 0)
		return probe();
	ready = prepare(&r);
	for (;;) {
		n = read(CHANNEL_DOORBELL, &bell, sizeof bell);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != static_cast<ssize_t>(sizeof bell))
			return n == 0 ? 0 : 1;
		if (!ready || !serve(&r, &bell)) {
			(void)reply(&r, bell.nonce, CHANNEL_DEVICE);
			return 1;
		}
		if (!reply(&r, bell.nonce, CHANNEL_OK))
			return 1;
	}
}
