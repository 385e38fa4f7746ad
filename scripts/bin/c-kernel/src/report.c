/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Beyond these a single core of today does not get: such a result is marked, not refused. */
#define GFLOPS_CREDIBLE 1000.0

double report_score(const struct report *report)
{
	double sum = 0;

	if (!report->correct || report->shapes == 0)
		return 0;
	for (int i = 0; i < report->shapes; i++)
		sum += log(report->timing[i].speedup.median);
	return exp(sum / report->shapes);
}

/* Only bytes that need no escape get through; quotes and the like become a dot. */
static void put_text(FILE *f, const char *text)
{
	(void)fputc('"', f);
	for (; *text; text++)
		(void)fputc(*text < ' ' || *text > '~' || *text == '"' || *text == '\\' ? '.'
											: *text,
			    f);
	(void)fputc('"', f);
}

static void put_stats(FILE *f, const char *name, const struct stats *s)
{
	(void)fprintf(f,
		      ", \"%s\": {\"median_usec\": %.4f, \"mad_usec\": %.4f, \"p10_usec\": %.4f, "
		      "\"p90_usec\": %.4f, \"min_usec\": %.4f",
		      name, s->median, s->mad, s->p10, s->p90, s->min);
}

static void put_shape(FILE *f, const struct report *r, int i)
{
	const struct timing *t = &r->timing[i];
	char name[64];

	task_shape_name(r->task, &r->shape[i], name, sizeof name);
	(void)fprintf(f, "%s\n    ", i ? "," : "");
	put_text(f, name);
	(void)fprintf(f, ": {\"speedup\": %.4f, \"speedup_low\": %.4f, \"speedup_high\": %.4f",
		      t->speedup.median, t->speedup.low, t->speedup.high);
	(void)fprintf(f, ", \"rounds\": %d", t->speedup.n);
	put_stats(f, "submission", &t->submission);
	(void)fprintf(f, ", \"wall_usec\": %.4f", t->submission_wall_usec);
	if (r->device)
		(void)fprintf(f, ", \"device_usec\": %.4f", t->submission_device_usec);
	(void)fprintf(f, "}");
	put_stats(f, "baseline", &t->baseline);
	(void)fprintf(f, ", \"wall_usec\": %.4f}", t->baseline_wall_usec);
	(void)fprintf(f, ", \"error_of_tolerance\": %.4f, \"gflops\": %.3f, \"credible\": %s}",
		      t->worst_error, t->gflops,
		      r->device || t->gflops < GFLOPS_CREDIBLE ? "true" : "false");
}

static void put_report(FILE *f, const struct report *r)
{
	(void)fprintf(f, "{\"score\": %.4f,\n  \"correct\": %s,\n  \"task\": ", report_score(r),
		      r->correct ? "true" : "false");
	put_text(f, r->task->name);
	if (!r->correct) {
		(void)fprintf(f, ",\n  \"why\": ");
		put_text(f, r->why);
	}
	(void)fprintf(f, ",\n  \"checks\": %d,\n  \"seed\": \"%016llx\",\n  \"confined\": %s",
		      r->checks, (unsigned long long)r->seed, r->confined ? "true" : "false");
	(void)fprintf(f, ",\n  \"clock\": \"%s\",\n  \"compiler\": ",
		      r->device ? "wall time" : "processor time");
	put_text(f, r->compiler);
	if (r->correct) {
		(void)fprintf(f, ",\n  \"shapes\": {");
		for (int i = 0; i < r->shapes; i++)
			put_shape(f, r, i);
		(void)fprintf(f, "}");
	}
	(void)fprintf(f, "}\n");
}

int report_write(const struct report *report, const char *folder)
{
	char new[4096], final[4096];
	int fd, failed;
	FILE *f;

	(void)snprintf(new, sizeof new, "%s/.scores.json.new", folder);
	(void)snprintf(final, sizeof final, "%s/scores.json", folder);
	(void)unlink(new);
	fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	f = fdopen(fd, "w");
	if (!f)
		return -errno;
	put_report(f, report);
	failed = ferror(f);
	if (fclose(f) != 0 || failed || rename(new, final) < 0)
		return errno ? -errno : -EIO;
	return 0;
}

void report_print(const struct report *r)
{
	char name[64];

	if (!r->correct)
		(void)printf("%s\n", r->why);
	for (int i = 0; r->correct && i < r->shapes; i++) {
		const struct timing *t = &r->timing[i];

		task_shape_name(r->task, &r->shape[i], name, sizeof name);
		(void)printf(
			"%s %-16s %9.2f us, baseline %9.2f us, %6.2f times as fast [%.2f, %.2f]\n",
			r->task->name, name, t->submission.median, t->baseline.median,
			t->speedup.median, t->speedup.low, t->speedup.high);
	}
	(void)printf("score %.3f\n", report_score(r));
}

void progress(int fd, int done, int total, const char *text)
{
	char line[256];
	int n;

	if (fd < 0)
		return;
	n = snprintf(line, sizeof line, "{\"done\": %d, \"total\": %d, \"text\": \"%s\"}\n", done,
		     total, text);
	if (n > 0 && (size_t)n < sizeof line)
		(void)!write(fd, line, (size_t)n);
}
