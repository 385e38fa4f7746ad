/* SPDX-License-Identifier: MIT */
/* What a broker sends: frames, their methods, and the properties of messages. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "messaging/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_properties(const struct wire_frame *f)
{
	struct wire_properties p;
	size_t sum = 0;

	if (wire_properties(f, &p, NULL) < 0)
		return;
	assert(p.n_headers <= WIRE_HEADERS_MAX);
	for (size_t i = 0; i < p.n_headers; i++) {
		sum += strlen(p.headers[i].name);
		if (p.headers[i].type == BROKER_HEADER_TEXT)
			sum += strlen(p.headers[i].text);
	}
	sum += strlen(p.content_type) + strlen(p.message_id) + strlen(p.app_id);
	assert(sum <= f->size);
	wire_properties_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_frame f;
	amqp_method_t m;
	amqp_pool_t pool;
	size_t at = 0;
	ssize_t n;

	init_amqp_pool(&pool, 4096);
	while ((n = wire_frame(data + at, size - at, WIRE_FRAME_MAX, &f, NULL)) > 0) {
		at += (size_t)n;
		if (f.type == AMQP_FRAME_METHOD)
			(void)!wire_method(&f, &pool, &m, NULL);
		else if (f.type == AMQP_FRAME_HEADER)
			take_properties(&f);
		recycle_amqp_pool(&pool);
	}
	empty_amqp_pool(&pool);
	return 0;
}
