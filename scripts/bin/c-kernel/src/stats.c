/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <math.h>
#include <stdlib.h>

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Linear interpolation between the two nearest ranks. */
static double quantile(const double *sorted, int n, double q)
{
	double at = q * (n - 1);
	int low = (int)at;
	int high = low + 1 < n ? low + 1 : low;

	return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

/*
 * The number of values below the true median is binomial(n, 1/2); its normal approximation gives the two ranks
 * between which the median lies with 95 % probability, whatever the distribution is.
 */
static void confidence(const double *sorted, int n, struct stats *s)
{
	int low = (int)floor((n - 1.96 * sqrt(n)) / 2);
	int high = (int)ceil((n + 1.96 * sqrt(n)) / 2);

	s->low = sorted[low > 0 ? low : 0];
	s->high = sorted[high < n ? high : n - 1];
}

struct stats stats_of(double *values, int n)
{
	struct stats s = { .n = n };

	qsort(values, (size_t)n, sizeof *values, compare_doubles);
	s.min = values[0];
	s.p10 = quantile(values, n, 0.1);
	s.median = quantile(values, n, 0.5);
	s.p90 = quantile(values, n, 0.9);
	confidence(values, n, &s);
	for (int i = 0; i < n; i++)
		values[i] = fabs(values[i] - s.median);
	qsort(values, (size_t)n, sizeof *values, compare_doubles);
	s.mad = quantile(values, n, 0.5);
	return s;
}
