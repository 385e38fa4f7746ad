/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr-gpu asks the NVIDIA driver which GPUs this host has, prints one JSON object, and ends. It is a
 * program of its own because the driver's library may hang, stay in the kernel, or start threads and
 * other programs: nothing of zr that lives longer than a question loads it. Whoever starts it
 * (exec/gpu) gives it a time limit and goes on without an answer.
 *
 *	cuda.c	libcuda: which GPUs, how large, what kind
 *	nvml.c	libnvidia-ml, if it is there: device node, memory in use, processes
 *	parts.c	GPUs in MIG mode, of which CUDA shows a process one part
 *
 * Of what /proc/driver/nvidia says the device node and the UUID of the whole GPU are taken first;
 * libnvidia-ml may not be there in a container.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "cuda.h"
#include "nvml.h"
#include "parts.h"

#define PROC_GPUS "/proc/driver/nvidia/gpus"

/* A library is code that we run: who may write it must be us, or root. */
static int check_library(const char *path, struct err *e)
{
	auto_free char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;
	struct stat st;

	if (!slash || path[0] != '/')
		return err_input(e, "'%s' is not the absolute path of a library", STR_ESC(path));
	slash[slash == folder] = '\0';
	if (stat(path, &st) < 0)
		return err_sys(e, "%s", STR_ESC(path));
	if (!S_ISREG(st.st_mode) || st.st_mode & (S_IWGRP | S_IWOTH))
		return err_input(e, "%s is not a file that only its owner may write",
				 STR_ESC(path));
	if (stat(folder, &st) < 0)
		return err_sys(e, "%s", STR_ESC(folder));
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_input(e, "the folder %s may be written by others than its owner",
				 STR_ESC(folder));
	return 0;
}

static void uuid_text(char out[48], const char *kind, const unsigned char u[16])
{
	int n = snprintf(out, 48, "%s-", kind);

	for (int i = 0; i < 16; i++)
		n += snprintf(out + n, 48 - (size_t)n, "%s%02x",
			      i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
}

/* "0000:01:00.0" and "00000000:01:00.0" are one place. */
static bool same_place(const char *a, const char *b)
{
	const char *x = strchr(a, ':'), *y = strchr(b, ':');

	return x && y && strcasecmp(x, y) == 0 && strtoul(a, NULL, 16) == strtoul(b, NULL, 16);
}

static void take_line(const char *text, const char *key, char *out, size_t size)
{
	const char *p = text ? strstr(text, key) : NULL;

	if (!p)
		return;
	p += strlen(key);
	p += strspn(p, " \t");
	snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
}

/* What the kernel module says; nothing is changed if it says nothing. */
static void look_in_proc(const char *pci, char *uuid, size_t size, int *node)
{
	DIR *d = opendir(PROC_GPUS);

	for (struct dirent *de; d && (de = readdir(d));) {
		auto_buf struct buf b = { 0 };
		char path[320], minor[16] = "";

		if (!same_place(de->d_name, pci))
			continue;
		snprintf(path, sizeof(path), PROC_GPUS "/%s/information", de->d_name);
		if (fd_read_file(AT_FDCWD, path, 65536, &b, NULL) < 0)
			continue;
		take_line(b.data, "GPU UUID:", uuid, size);
		take_line(b.data, "Device Minor:", minor, sizeof(minor));
		if (minor[0] >= '0' && minor[0] <= '9')
			*node = atoi(minor);
	}
	if (d)
		closedir(d);
}

static json_t *number_or_null(int64_t v)
{
	return v < 0 ? json_null() : json_integer(v);
}

static const char *mode_name(int mode)
{
	return mode == 2 ? "prohibited" : mode == 3 ? "exclusive-process" : "default";
}

/* One that CUDA sees, with what libnvidia-ml and the kernel module say of it. */
static void describe(const struct cuda_gpu *g, const char *nvml, struct nvml_device *ret)
{
	char whole[64] = "";

	*ret = (struct nvml_device){
		.major = g->major,
		.minor = g->minor,
		.mode = g->mode,
		.gi = -1,
		.ci = -1,
		.memory_bytes = g->memory_bytes,
	};
	snprintf(ret->name, sizeof(ret->name), "%s", g->name);
	nvml_look(nvml, g->pci, &ret->now);
	look_in_proc(g->pci, whole, sizeof(whole), &ret->now.node);
	if (!whole[0])
		snprintf(whole, sizeof(whole), "%s", ret->now.uuid);
	uuid_text(ret->uuid, "GPU", g->uuid);
	if (!whole[0] || strcasecmp(whole, ret->uuid) == 0)
		return;
	/* Of a part of a GPU CUDA gives the UUID of that part. */
	uuid_text(ret->uuid, "MIG", g->uuid);
	snprintf(ret->parent, sizeof(ret->parent), "%s", whole);
}

/* `key` and `value`: what is known only of one that was found this way. */
static json_t *device_json(const struct nvml_device *d, unsigned index, const char *key,
			   json_t *value)
{
	char cc[24];

	snprintf(cc, sizeof(cc), "%d.%d", d->major, d->minor);
	return json_pack(
		"{s:i, s:s, s:o, s:s, s:I, s:b, s:s?, s:o, s:o, s:s, s:o, s:o}", "index",
		(int)index, "uuid", d->uuid, "name", js_from_bytes(d->name, strlen(d->name)),
		"compute_capability", cc, "memory_bytes", (json_int_t)d->memory_bytes, "mig",
		d->parent[0] != '\0', "parent", d->parent[0] ? d->parent : NULL, key, value, "node",
		number_or_null(d->now.node), "compute_mode", mode_name(d->mode), "used_bytes",
		number_or_null(d->now.used_bytes), "processes", number_or_null(d->now.processes));
}

static json_t *gpu_json(const struct cuda_gpu *g, unsigned index, const char *nvml)
{
	struct nvml_device d;

	describe(g, nvml, &d);
	return device_json(&d, index, "pci", json_string(g->pci));
}

static json_t *list(const struct cuda *c, const char *nvml)
{
	auto_free struct nvml_device *device = NULL;
	json_t *a = json_array();
	size_t n = c->n ? parts_list(nvml, &device) : 0;
	int r = a ? 0 : -1;

	for (unsigned i = 0; i < n && r == 0; i++)
		r = json_array_append_new(
			a, device_json(&device[i], i, "caps", parts_caps(&device[i])));
	for (unsigned i = 0; i < c->n && !n && r == 0; i++)
		r = json_array_append_new(a, gpu_json(&c->gpu[i], i, nvml));
	if (r == 0)
		return a;
	json_decref(a);
	return NULL;
}

static int print(const struct cuda *c, const char *nvml)
{
	static const char *const states[] = { "ready", "none", "sick" };
	json_t *gpus = list(c, nvml), *o;
	auto_free char *text = NULL;
	char driver[24] = "";

	if (c->driver)
		snprintf(driver, sizeof(driver), "%d.%d", c->driver / 1000, c->driver % 1000 / 10);
	o = json_pack("{s:s, s:s?, s:i, s:s?, s:s?, s:b, s:o}", "state", states[c->state], "error",
		      c->why[0] ? c->why : NULL, "code", c->code, "library",
		      c->path[0] ? c->path : NULL, "cuda", driver[0] ? driver : NULL, "double",
		      c->is_double, "gpus", gpus);
	text = o ? js_text(o) : NULL;
	json_decref(o);
	if (!text || puts(text) < 0 || fflush(stdout))
		return 1;
	return 0;
}

/* libnvidia-ml lies beside the library that was named. */
static int beside(const char *library, char **ret)
{
	const char *slash = library ? strrchr(library, '/') : NULL;

	*ret = NULL;
	return slash ? str_fmt(ret, "%.*s/libnvidia-ml.so.1", (int)(slash - library), library) : 0;
}

/* What is on these GPUs; CUDA is not asked, which would cost seconds and a context. */
static int check(const char *library, char **uuids)
{
	json_t *gpus = json_array(), *o;
	auto_free char *nvml = NULL, *text = NULL;
	char driver[64] = "";
	struct err e = { 0 };
	int r = gpus && beside(library, &nvml) >= 0 ? 0 : -1;

	if (nvml && check_library(nvml, &e) < 0) {
		fprintf(stderr, "zr-gpu: %s\n", e.msg);
		r = -1;
	}
	for (; *uuids && r == 0; uuids++) {
		struct nvml_gpu m;
		int code = nvml_check(nvml, *uuids, &m);

		snprintf(driver, sizeof(driver), "%s", m.driver);
		r = json_array_append_new(gpus,
					  json_pack("{s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
						    "uuid", *uuids, "code", code, "used_bytes",
						    number_or_null(m.used_bytes), "processes",
						    number_or_null(m.processes), "sm_mhz",
						    number_or_null(m.sm_mhz), "memory_mhz",
						    number_or_null(m.memory_mhz), "temperature",
						    number_or_null(m.temperature), "power_mw",
						    number_or_null(m.power_mw), "throttle",
						    number_or_null(m.throttle)));
	}
	o = json_pack("{s:s, s:o}", "driver", driver, "gpus", gpus);
	text = o && r == 0 ? js_text(o) : NULL;
	json_decref(o);
	return !text || puts(text) < 0 || fflush(stdout);
}

static int probe(const char *library)
{
	auto_free char *nvml = NULL;
	struct cuda c = { .state = CUDA_SICK };
	struct err e = { 0 };
	int r;

	/* So that a number means the same GPU here, in lock names and for everybody else. */
	setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
	if (library && check_library(library, &e) < 0)
		snprintf(c.why, sizeof(c.why), "cuda_library: %.380s", e.msg);
	else
		cuda_open(&c, library);
	if (beside(library, &nvml) < 0)
		return 1;
	r = print(&c, nvml);
	free(c.gpu);
	return r;
}

int main(int argc, char **argv)
{
	if (argc == 2 && str_eq(argv[1], "--version"))
		return puts("zr-gpu " ZR_VERSION) < 0;
	if (argc == 2 && str_eq(argv[1], "--probe"))
		return probe(NULL);
	if (argc == 3 && str_eq(argv[1], "--probe"))
		return probe(argv[2]);
	if (argc > 3 && str_eq(argv[1], "--check"))
		return check(argv[2][0] ? argv[2] : NULL, argv + 3);
	fputs("usage: zr-gpu --probe [LIBRARY] | --check LIBRARY UUID ... | --version\n", stderr);
	return 2;
}
