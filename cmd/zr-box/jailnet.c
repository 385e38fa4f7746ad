/* SPDX-License-Identifier: MIT */
#include "jailnet.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"

static const char *const files[JAILNET_COUNTERS] = {
	"/proc/self/net/snmp", "/proc/self/net/snmp6", /* not there without IPv6 */
};

void jailnet_init(struct jailnet *n)
{
	*n = (struct jailnet){ .ns = -1, .counters = { -1, -1 } };
}

static void drop(struct jailnet *n)
{
	if (n->ns >= 0)
		close(n->ns);
	for (int i = 0; i < JAILNET_COUNTERS; i++) {
		if (n->counters[i] >= 0)
			close(n->counters[i]);
		free(n->fresh[i]);
	}
	jailnet_init(n);
}

static int loopback_up(void)
{
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0 ? -errno : 0;
}

void jailnet_read(const struct jailnet *n, int i, char *text)
{
	ssize_t k = n->counters[i] < 0 ? -1 : pread(n->counters[i], text, JAILNET_TEXT_MAX - 1, 0);

	text[k > 0 ? k : 0] = '\0';
}

/* From within. */
static int look_around(struct jailnet *n)
{
	char text[JAILNET_TEXT_MAX];

	for (int i = 0; i < JAILNET_COUNTERS; i++) {
		n->counters[i] = open(files[i], O_RDONLY | O_CLOEXEC);
		jailnet_read(n, i, text);
		n->fresh[i] = strdup(text);
		if (!n->fresh[i])
			return -ENOMEM;
	}
	return 0;
}

static int furnish(struct jailnet *n)
{
	int r = loopback_up();

	return r < 0 ? r : look_around(n);
}

static int make_apart(struct jailnet *n, bool *ret_lost)
{
	auto_close int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (home < 0 || unshare(CLONE_NEWNET) < 0)
		return -errno;
	n->ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	r = n->ns < 0 ? -errno : furnish(n);
	if (setns(home, CLONE_NEWNET) < 0) {
		*ret_lost = true;
		return -errno;
	}
	return r;
}

int jailnet_make(struct jailnet *n, bool stay, bool *ret_lost)
{
	int r;

	*ret_lost = false;
	if (n->ns >= 0 || n->inside)
		return 0;
	if (stay) {
		r = unshare(CLONE_NEWNET) < 0 ? -errno : furnish(n);
		n->inside = r == 0;
	} else {
		r = make_apart(n, ret_lost);
	}
	if (r < 0)
		drop(n);
	return r;
}

int jailnet_join(const struct jailnet *n)
{
	return !n->inside && setns(n->ns, CLONE_NEWNET) < 0 ? -errno : 0;
}

void jailnet_settle(struct jailnet *n, char (*text)[JAILNET_TEXT_MAX])
{
	for (int i = 0; i < JAILNET_COUNTERS; i++)
		if (n->fresh[i] && !str_eq(text[i], n->fresh[i])) {
			drop(n);
			return;
		}
	/* Without counters nobody knows. */
	if (n->counters[0] < 0)
		drop(n);
}
