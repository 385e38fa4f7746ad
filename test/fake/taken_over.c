/* SPDX-License-Identifier: MIT */
/*
 * Code inside a fetcher that a host has taken over: preloaded, it runs where libssh2 begins to
 * read what the host sent, and tries what TAKEN_OVER names. It ends the process with 100 when it
 * got what it wanted, with 101 when it did not; a killed process speaks for itself.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int libssh2_session_handshake(void *session, int fd);

static int try(const char *what)
{
	if (strcmp(what, "read") == 0)
		return open("/etc/passwd", O_RDONLY);
	if (strcmp(what, "key") == 0)
		return open(getenv("TAKEN_OVER_KEY"), O_RDONLY);
	if (strcmp(what, "write") == 0)
		return open("/tmp/zr-taken-over", O_WRONLY | O_CREAT, 0600);
	if (strcmp(what, "exec") == 0)
		return execl("/bin/true", "true", NULL);
	if (strcmp(what, "fork") == 0)
		return fork();
	if (strcmp(what, "socket") == 0)
		return socket(AF_INET, SOCK_STREAM, 0);
	if (strcmp(what, "ptrace") == 0)
		return (int)ptrace(PTRACE_ATTACH, getppid(), 0, 0);
	if (strcmp(what, "code") == 0)
		return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
			       ? -1
			       : 0;
	if (strcmp(what, "link") == 0)
		return symlinkat("/etc/passwd", AT_FDCWD, getenv("TAKEN_OVER_STAGING"));
	if (strcmp(what, "setuid") == 0)
		return chmod(getenv("TAKEN_OVER_STAGING"), 04755);
	return 0;
}

__attribute__((visibility("default"))) int libssh2_session_handshake(void *session, int fd)
{
	(void)session;
	(void)fd;
	_exit(try(getenv("TAKEN_OVER")) < 0 ? 101 : 100);
}
