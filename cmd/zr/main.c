/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("zr " ZR_VERSION);
		return 0;
	}
	fputs("zr: no such command\n", stderr);
	return 2;
}
