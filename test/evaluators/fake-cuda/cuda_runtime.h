/* SPDX-License-Identifier: MIT */
/*
 * A device that is ordinary memory of the same process: enough of CUDA's runtime to drive cuda-kernel's runner through
 * the judge on a host without a GPU. The environment variable CUDA_FAKE_FAILURE makes the wait for kernels fail.
 */
#ifndef FAKE_CUDA_RUNTIME_H
#define FAKE_CUDA_RUNTIME_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum cudaError_t {
	cudaSuccess = 0,
	cudaErrorMemoryAllocation = 2,
	cudaErrorNoDevice = 100,
	cudaErrorIllegalAddress = 700
};
enum cudaMemcpyKind {
	cudaMemcpyHostToDevice,
	cudaMemcpyDeviceToHost
};

struct cudaDeviceProp {
	char name[256];
	int major, minor, l2CacheSize;
};

typedef struct timespec *cudaEvent_t;

static inline const char *cudaGetErrorString(cudaError_t e)
{
	return e == cudaErrorIllegalAddress ? "an illegal memory access was encountered"
					    : "fake failure";
}

static inline cudaError_t cudaMalloc(void **ret, size_t size)
{
	*ret = aligned_alloc(256, (size + 255) / 256 * 256);
	return *ret ? cudaSuccess : cudaErrorMemoryAllocation;
}

static inline cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind)
{
	memcpy(to, from, n);
	return cudaSuccess;
}

static inline cudaError_t cudaMemset(void *to, int value, size_t n)
{
	memset(to, value, n);
	return cudaSuccess;
}

static inline cudaError_t cudaGetDeviceCount(int *ret)
{
	*ret = 1;
	return cudaSuccess;
}

static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *ret, int)
{
	*ret = cudaDeviceProp{ "fake device", 9, 0, 1 << 16 };
	return cudaSuccess;
}

static inline cudaError_t cudaEventCreate(cudaEvent_t *ret)
{
	*ret = static_cast<cudaEvent_t>(calloc(1, sizeof **ret));
	return *ret ? cudaSuccess : cudaErrorMemoryAllocation;
}

static inline cudaError_t cudaEventRecord(cudaEvent_t e)
{
	(void)clock_gettime(CLOCK_MONOTONIC, e);
	return cudaSuccess;
}

static inline cudaError_t cudaEventElapsedTime(float *ret, cudaEvent_t a, cudaEvent_t b)
{
	*ret = static_cast<float>(b->tv_sec - a->tv_sec) * 1e3f +
	       static_cast<float>(b->tv_nsec - a->tv_nsec) / 1e6f;
	return cudaSuccess;
}

static inline cudaError_t cudaDeviceSynchronize(void)
{
	return getenv("CUDA_FAKE_FAILURE") ? cudaErrorIllegalAddress : cudaSuccess;
}

static inline cudaError_t cudaGetLastError(void)
{
	return cudaSuccess;
}

static inline cudaError_t cudaCtxResetPersistingL2Cache(void)
{
	return cudaSuccess;
}

#endif
