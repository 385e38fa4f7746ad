/* SPDX-License-Identifier: MIT */
/*
 * The process that a kernel runs in: waits for a doorbell, calls the kernel, replies. Nothing here is trusted by
 * the judge; the code is only tidy. The baseline runs in a second process of the same program.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.h"

static const char *input;
static size_t input_size;
static char *output;
static uint64_t current_nonce;

static int write_reply(enum channel_status status)
{
	struct reply reply = { .nonce = current_nonce, .status = status };

	return write(CHANNEL_REPLY, &reply, sizeof reply) == sizeof reply ? 0 : -1;
}

/* Tells the judge what kind of bad access this was, for a better sentence; then dies of the signal. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr, start = (uintptr_t)input;

	(void)context;
	(void)write_reply(at >= start && at < start + input_size ? CHANNEL_WROTE_INPUT
								 : CHANNEL_BAD_ACCESS);
	(void)signal(sig, SIG_DFL);
}

static int catch_faults(void)
{
	/* A stack of its own: the fault may be a stack overflow. */
	static char stack[16384];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (sigaltstack(&alternate, NULL) < 0 || sigaction(SIGSEGV, &action, NULL) < 0)
		return -1;
	return sigaction(SIGBUS, &action, NULL);
}

static void *map(int fd, int protection, size_t *ret_size)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return MAP_FAILED;
	p = mmap(NULL, (size_t)st.st_size, protection, MAP_SHARED | MAP_POPULATE, fd, 0);
	(void)close(fd);
	*ret_size = (size_t)st.st_size;
	return p;
}

static void run_calls(uint32_t calls)
{
	const struct call *call = (const struct call *)(const void *)input;

	for (uint32_t c = 0; c < calls && c < CHANNEL_CALLS; c++, call++) {
		const float *in[CHANNEL_INPUTS];

		for (int i = 0; i < CHANNEL_INPUTS; i++)
			in[i] = (const float *)(const void *)(input + call->in[i]);
		glue_call(call->dim, in, (float *)(void *)(output + call->out));
	}
}

int main(void)
{
	struct doorbell bell;
	size_t output_size;
	ssize_t n;

	input = map(CHANNEL_INPUT, PROT_READ, &input_size);
	output = map(CHANNEL_OUTPUT, PROT_READ | PROT_WRITE, &output_size);
	if (input == MAP_FAILED || output == MAP_FAILED || catch_faults() < 0)
		return 1;
	for (;;) {
		n = read(CHANNEL_DOORBELL, &bell, sizeof bell);
		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof bell)
			return n == 0 ? 0 : 1;
		current_nonce = bell.nonce;
		run_calls(bell.calls);
		if (write_reply(CHANNEL_OK) < 0)
			return 1;
	}
}
