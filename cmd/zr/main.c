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

/* How many letters must be added, dropped or changed to make one word of the other. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n >= ARRAY_LEN(row))
		return SIZE_MAX;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t change = diagonal + (a[i - 1] != b[j - 1]);
			size_t insert = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			diagonal = row[j];
			row[j] = change < insert ? change : insert;
		}
	}
	return row[n];
}

static int no_such_command(const char *word)
{
	const struct command *nearest = NULL;
	size_t best = 4;

	for (size_t g = 0; command_groups[g]; g++) {
		for (const struct command *cmd = command_groups[g]->commands; cmd->name; cmd++) {
			size_t d = distance(word, cmd->name);

			if (d < best) {
				best = d;
				nearest = cmd;
			}
		}
	}
	fprintf(stderr, "zr: no such command '%s'", STR_ESC(word));
	if (nearest)
		fprintf(stderr, "; did you mean '%s'?\n", nearest->name);
	else
		fputs("; see 'zr --help'\n", stderr);
	return CLI_USAGE;
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

static int run_command(struct cli *c, int argc, char **argv)
{
	c->command = find_command(argv[0]);
	if (!c->command)
		return no_such_command(argv[0]);
	c->argc = argc;
	c->argv = argv;
	return c->command->run(c);
}

/* "zr help VERB" and, for completion, "zr __options__ VERB". Negative if it is neither. */
static int run_about(struct cli *c, int argc, char **argv)
{
	char help[] = "--help";
	char *words[] = { argv[1], help, NULL };

	if (argc != 2)
		return -1;
	if (str_eq(argv[0], "help"))
		return run_command(c, 2, words);
	if (!str_eq(argv[0], "__options__"))
		return -1;
	c->completing = true;
	return run_command(c, 1, argv + 1);
}

/* Options before the command. Returns the index of the first word that is none. */
static int read_globals(struct cli *c, int argc, char **argv)
{
	if (argc > 2 && str_eq(argv[1], "--conf")) {
		c->conf = argv[2];
		return 3;
	}
	if (argc > 1 && str_starts(argv[1], "--conf=")) {
		c->conf = argv[1] + strlen("--conf=");
		return 2;
	}
	return 1;
}

int main(int argc, char **argv)
{
	struct cli c = { 0 };
	int i = read_globals(&c, argc, argv), status;

	if (i >= argc) {
		fputs("zr: which command? see 'zr --help'\n", stderr);
		return CLI_USAGE;
	}
	status = run_about(&c, argc - i, argv + i);
	if (status < 0)
		status = run_builtin(argv[i]);
	if (status < 0)
		status = run_command(&c, argc - i, argv + i);
	return close_stdout(status);
}
