/* SPDX-License-Identifier: MIT */
/*
 * Replays corpus files and folders through a fuzz target as an ordinary program, so that every
 * build variant and both compilers run them.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/attr.h"
#include "base/fd.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	auto_buf struct buf b = { 0 };
	struct err e = { 0 };

	if (fd_read_file(AT_FDCWD, path, 64u << 20, &b, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return 1;
	}
	LLVMFuzzerTestOneInput((const uint8_t *)b.data, b.len);
	return 0;
}

static int replay_dir(const char *path)
{
	struct dirent **names = NULL;
	int n = scandir(path, &names, NULL, alphasort), failed = n < 0;

	for (int i = 0; i < n; i++) {
		auto_free char *p = NULL;

		if (names[i]->d_name[0] != '.' && str_fmt(&p, "%s/%s", path, names[i]->d_name) >= 0)
			failed |= replay_file(p);
		free(names[i]);
	}
	free(names);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;

	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) < 0) {
			perror(argv[i]);
			return 1;
		}
		failed |= S_ISDIR(st.st_mode) ? replay_dir(argv[i]) : replay_file(argv[i]);
	}
	return failed;
}
