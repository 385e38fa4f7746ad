/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_STATS_H
#define KERNEL_STATS_H

/*
 * What is told about a series of measurements. Times on a shared machine have a long tail to the right, so everything
 * here is an order statistic: no mean, no standard deviation.
 */
struct stats {
	int n;
	double min, p10, median, p90;
	double mad; /* median absolute deviation from the median, unscaled */
	double low,
		high; /* 95 % confidence interval of the median, from ranks; n >= 6, else min and max */
};

/* Sorts `values` in place; n >= 1. */
struct stats stats_of(double *values, int n);

#endif
