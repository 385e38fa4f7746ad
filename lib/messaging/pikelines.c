/* SPDX-License-Identifier: MIT */
#include "messaging/pikelines.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/pyjson.h"
#include "base/str.h"
#include "base/time.h"

#define ID_SHOWN 200

struct shown {
	char text[ID_SHOWN];
};

printf_like(2, 3) static void say(const struct pikelines *l, const char *fmt, ...)
{
	char text[ID_SHOWN + 128];
	va_list ap;

	if (!l->line)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	l->line(l->user, text);
}

/* A text without its quotes; other values as they were written. */
static struct shown show(const char *id)
{
	const struct pj v = { id, strlen(id) };
	auto_buf struct buf b = { 0 };
	struct shown s;

	if (pj_type(v) == PJ_STRING && pj_text(v, &b) == 0)
		str_escape(s.text, sizeof(s.text), b.data ? b.data : "", b.len);
	else
		str_escape(s.text, sizeof(s.text), v.p, v.n);
	return s;
}

static unsigned long long centis(uint64_t usec)
{
	return (unsigned long long)(usec / (USEC_PER_SEC / 100));
}

void pikelines_begin(struct pikelines *l)
{
	l->since_usec = time_mono_usec();
	say(l, "CPU count: %ld", sysconf(_SC_NPROCESSORS_ONLN));
	say(l, "Eval worker running...");
}

void pikelines_handshake(const struct pikelines *l)
{
	say(l, "Got handshake message");
}

void pikelines_close(const struct pikelines *l)
{
	say(l, "Got close message, closing worker.");
}

void pikelines_received(const struct pikelines *l, const char *id, uint64_t number, unsigned active)
{
	say(l, "Active task count: %u", active);
	say(l, "Received task: %s, number: %llu", show(id).text, (unsigned long long)number);
}

void pikelines_timed_out(const struct pikelines *l, const char *id)
{
	say(l, "Task %s timed out, killing...", show(id).text);
	say(l, "Task %s killed.", show(id).text);
}

void pikelines_completed(const struct pikelines *l, const char *id, uint64_t wall_usec)
{
	say(l, "Completed task: %s, task time: %llu.%02llus", show(id).text,
	    centis(wall_usec) / 100, centis(wall_usec) % 100);
}

void pikelines_end(const struct pikelines *l)
{
	uint64_t spent = time_mono_usec() - l->since_usec;

	say(l, "Total worker running time: %llu.%02llus", centis(spent) / 100, centis(spent) % 100);
}
