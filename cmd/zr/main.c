/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * zr is the hand of the operator: it reads and writes the database, publishes requests and control
 * messages, and starts the daemons by exec. It holds no state of its own. A call is
 *
 *	zr [--conf FILE] noun:verb [options] arguments
 *
 * main() finds the verb in the tables of commands.c and runs it; cli.c reads its options.
 */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli.h"

static void print_groups(void)
{
	puts("usage: zr [--conf FILE] COMMAND [OPTIONS] [ARGUMENTS]");
	for (size_t g = 0; command_groups[g]; g++) {
		printf("\n%s:\n", command_groups[g]->title);
		for (const struct command *cmd = command_groups[g]->commands; cmd->name; cmd++)
			printf("  %-24s %s\n", cmd->name, cmd->summary);
	}
	puts("\n'zr COMMAND --help' tells more and shows an example. Manual: zr(1).");
}

/* For completion: all command words on one line. */
static void print_words(void)
{
	const char *blank = "";

	for (size_t g = 0; command_groups[g]; g++) {
		for (const struct command *cmd = command_groups[g]->commands; cmd->name; cmd++) {
			printf("%s%s", blank, cmd->name);
			blank = " ";
		}
	}
	putchar('\n');
}

static const struct command *find_command(const char *name)
{
	for (size_t g = 0; command_groups[g]; g++)
		for (const struct command *cmd = command_groups[g]->commands; cmd->name; cmd++)
			if (str_eq(cmd->name, name))
				return cmd;
	return NULL;
}

/* Output that did not reach its file is an error, even at the very end. */
static int close_stdout(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "zr: write to standard output: %s\n", strerror(errno));
	return status ? status : CLI_FAILED;
}

/* What is no verb: help, version, completion. Negative if it is none of them. */
static int run_builtin(const char *word)
{
	if (str_eq(word, "--version")) {
		puts("zr " ZR_VERSION);
		return CLI_DONE;
	}
	if (str_eq(word, "__all_cmd__")) {
		print_words();
		return CLI_DONE;
	}
	if (str_eq(word, "--help") || str_eq(word, "-h") || str_eq(word, "help") ||
	    str_eq(word, "list") || str_eq(word, "commands")) {
		print_groups();
		return CLI_DONE;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct cli c = { 0 };
	int i = 1, status;

	if (argc > 2 && str_eq(argv[1], "--conf")) {
		c.conf = argv[2];
		i = 3;
	}
	if (i >= argc) {
		fputs("zr: which command? see 'zr --help'\n", stderr);
		return CLI_USAGE;
	}
	status = run_builtin(argv[i]);
	if (status >= 0)
		return close_stdout(status);
	c.command = find_command(argv[i]);
	if (!c.command) {
		fprintf(stderr, "zr: no such command '%s'; see 'zr --help'\n", STR_ESC(argv[i]));
		return CLI_USAGE;
	}
	c.argc = argc - i;
	c.argv = argv + i;
	return close_stdout(c.command->run(&c));
}
