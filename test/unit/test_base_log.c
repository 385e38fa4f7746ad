/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "base/str.h"

#include "unit.h"

static int err_pipe[2], old_stderr;

static void setup(void)
{
	unsetenv("JOURNAL_STREAM");
	ck_assert_int_eq(pipe2(err_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	old_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(err_pipe[1], STDERR_FILENO);
	log_init("test", LOG_INFO);
}

static void teardown(void)
{
	dup2(old_stderr, STDERR_FILENO);
	close(old_stderr);
	close(err_pipe[0]);
	close(err_pipe[1]);
}

static const char *logged(void)
{
	static char text[4096];
	ssize_t n = read(err_pipe[0], text, sizeof(text) - 1);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

START_TEST(lines_with_level_and_fields)
{
	const struct log_ctx ctx = { .evaluation = "42", .attempt_id = "a-1", .peer = "oberon" };

	log_info("started %d", 7);
	ck_assert_str_eq(logged(), "<6>started 7\n");
	log_ctx(&ctx, LOG_ERR, "failed");
	ck_assert_str_eq(logged(), "<3>failed evaluation=42 attempt=a-1 peer=oberon\n");
}
END_TEST

START_TEST(levels)
{
	log_debug("not shown");
	ck_assert_str_eq(logged(), "");
	log_set_level(LOG_DEBUG);
	ck_assert_int_eq(log_level(), LOG_DEBUG);
	log_debug("shown");
	ck_assert_str_eq(logged(), "<7>shown\n");
	log_set_level(LOG_ERR);
	log_warning("not shown");
	log_notice("not shown");
	ck_assert_str_eq(logged(), "");
	ck_assert_int_eq(log_parse_level("warning"), LOG_WARNING);
	ck_fails(log_parse_level("loud"), EINVAL);
}
END_TEST

/* A foreign text must not be able to write a line of its own, not in a field either. */
START_TEST(no_foreign_text_forges_a_line)
{
	const struct log_ctx ctx = { .queue = "q\n<3>forged", .peer = "\x1b[2J" };

	log_ctx(&ctx, LOG_INFO, "said '%s'", "a\n<3>forged\x1b[2J\r\xff");
	ck_assert_str_eq(logged(), "<6>said 'a\\x0a<3>forged\\x1b[2J\\x0d\\xff' "
				   "queue=q\\x0a<3>forged peer=\\x1b[2J\n");
}
END_TEST

START_TEST(long_lines_are_cut)
{
	char big[5000];
	const char *line;

	memset(big, 'a', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	log_ctx(&(struct log_ctx){ .peer = big }, LOG_INFO, "%s", big);
	line = logged();
	ck_assert_uint_lt(strlen(line), 1100);
	ck_has(line, "a... peer=a");
	ck_assert_int_eq(line[strlen(line) - 1], '\n');
}
END_TEST

START_TEST(errno_survives_and_nothing_fails)
{
	errno = ENOTTY;
	log_info("x");
	ck_assert_int_eq(errno, ENOTTY);
	log_debug("x");
	ck_assert_int_eq(errno, ENOTTY);
	close(STDERR_FILENO);
	log_info("x");
	ck_assert_int_eq(errno, ENOTTY);
	dup2(err_pipe[1], STDERR_FILENO);
}
END_TEST

/* Nobody reads: lines are lost, the program goes on. */
START_TEST(a_full_pipe_does_not_block)
{
	for (int i = 0; i < 3000; i++)
		log_info("a line of some length that fills the pipe sooner or later, number %d", i);
	ck_assert_int_eq(strncmp(logged(), "<6>a line", 9), 0);
}
END_TEST

/* Only the stream that the journal itself gave us is the journal. */
START_TEST(the_journal_is_recognised)
{
	char stream[64];
	struct stat st;
	int status;
	pid_t pid;

	setenv("JOURNAL_STREAM", "1:2", 1);
	log_init("test", LOG_INFO);
	log_info("inherited by mistake");
	ck_assert_str_eq(logged(), "<6>inherited by mistake\n");
	setenv("JOURNAL_STREAM", "rubbish", 1);
	log_init("test", LOG_INFO);
	log_info("rubbish");
	ck_assert_str_eq(logged(), "<6>rubbish\n");
	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	/* The library keeps its socket for good: in a process of its own. */
	pid = fork();
	if (pid == 0) {
		log_init("test", LOG_INFO);
		log_ctx(&(struct log_ctx){ .peer = "p" }, LOG_INFO, "to the journal");
		_exit(*logged() ? 1 : 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(a_terminal_gets_plain_text)
{
	int at = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), tty;
	char text[200];
	ssize_t n;

	if (at < 0 || grantpt(at) < 0 || unlockpt(at) < 0)
		return; /* no terminals here */
	tty = open(ptsname(at), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ck_assert_int_ge(tty, 0);
	dup2(tty, STDERR_FILENO);
	log_init("zr-test", LOG_INFO);
	log_warning("odd");
	n = read(at, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = '\0';
	ck_has(text, " zr-test warning: odd\r\n");
	ck_assert_int_eq(text[2], ':');
	dup2(old_stderr, STDERR_FILENO);
	close(tty);
	close(at);
}
END_TEST

static void tests(TCase *t)
{
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, lines_with_level_and_fields);
	tcase_add_test(t, levels);
	tcase_add_test(t, no_foreign_text_forges_a_line);
	tcase_add_test(t, long_lines_are_cut);
	tcase_add_test(t, errno_survives_and_nothing_fails);
	tcase_add_test(t, a_full_pipe_does_not_block);
	tcase_add_test(t, the_journal_is_recognised);
	tcase_add_test(t, a_terminal_gets_plain_text);
}

int main(void)
{
	return unit_main("base/log", tests);
}
