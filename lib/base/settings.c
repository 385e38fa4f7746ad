/* SPDX-License-Identifier: MIT */
#include "base/settings.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/conf.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/str.h"
#include "base/time.h"

#define FILE_DEFAULT "/etc/zr/zr.conf"
#define DAY_USEC     (86400 * USEC_PER_SEC)

enum key_type {
	KEY_TEXT,
	KEY_LIST,
	KEY_SIZE,
	KEY_SPAN,
	KEY_COUNT,
};

enum {
	SECRET = 1 << 0, /* not to be shown */
	/* May change while a daemon runs: each use reads it anew, and nobody keeps its text. */
	RELOAD = 1 << 1,
};

/* Of every type: a pointer or a number. */
#define VALUE_SIZE sizeof(uint64_t)
_Static_assert(sizeof(char *) == VALUE_SIZE, "settings_apply() swaps both alike");

/* The one table of keys: it makes the parser, `zr settings`, the sample file and their checks. */
static const struct key {
	const char *name;
	enum key_type type;
	const char *def; /* text form; NULL: not set */
	size_t offset;
	unsigned flags;
	const char *env;
	const char *help;
	uint64_t min, max; /* of a size or span; max 0: any */
} keys[] = {
#define AT(member) offsetof(struct settings, member)
	{ "hostname", KEY_TEXT, NULL, AT(host), 0, NULL,
	  "Name of this host in messages and in the database; default: the system's host name." },
	{ "state_dir", KEY_TEXT, "/var/lib/zr", AT(state_dir), 0, NULL,
	  "What must survive a crash: spool, sealed results, caches." },
	{ "run_dir", KEY_TEXT, "/run/zr", AT(run_dir), 0, NULL, "Sockets." },
	{ "bin_dir", KEY_TEXT, "/usr/lib/zr/bin", AT(bin_dir), 0, "ZR_BIN",
	  "The bin folder: one folder or executable per evaluator." },
	{ "submissions_dir", KEY_TEXT, NULL, AT(submissions_dir), 0, NULL,
	  "Packed submissions on the API host; default: submissions under state_dir." },
	{ "submissions_url", KEY_TEXT, NULL, AT(submissions_url), 0, NULL,
	  "Where eval hosts read it: file:///PATH or ssh://HOST/PATH; default: see zr.conf(5)." },
	{ "results_dir", KEY_TEXT, NULL, AT(results_dir), 0, NULL,
	  "Published results on the API host; default: results under state_dir." },
	{ "leaderboards_dir", KEY_TEXT, NULL, AT(leaderboards_dir), 0, NULL,
	  "Leaderboard files on the API host; default: leaderboards under state_dir." },
	{ "channel", KEY_TEXT, "amqp", AT(channel), 0, NULL,
	  "Where evaluation workers get requests: amqp, or dir:FOLDER; see zr-channel(7)." },
	{ "channel_scan", KEY_SPAN, "1s", AT(channel_scan_usec), 0, NULL,
	  "How often a folder that is a channel is looked into, 100ms to 10s.", 100 * USEC_PER_MSEC,
	  10 * USEC_PER_SEC },
	{ "channel_watch", KEY_TEXT, "inotify", AT(channel_watch), 0, NULL,
	  "inotify: what this host puts there is seen at once; poll: only by looking." },
	{ "amqp_url", KEY_TEXT, NULL, AT(amqp_url), SECRET, "AMQP_URL",
	  "The broker: amqp://user:password@host:5672/vhost, or amqps:// for TLS." },
	{ "amqp_ca_file", KEY_TEXT, NULL, AT(amqp_ca_file), 0, NULL,
	  "Certificates that may sign the broker's; default: the system's." },
	{ "amqp_cert_file", KEY_TEXT, NULL, AT(amqp_cert_file), 0, NULL,
	  "Client certificate for amqps." },
	{ "amqp_key_file", KEY_TEXT, NULL, AT(amqp_key_file), 0, NULL, "Its private key." },
	{ "amqp_heartbeat", KEY_SPAN, "15s", AT(amqp_heartbeat_usec), 0, NULL,
	  "Heartbeat asked of the broker, 5s to 60s.", 5000000, 60000000 },
	{ "pool", KEY_LIST, "default", AT(pools), 0, NULL,
	  "Pools whose requests the workers of this host take." },
	{ "message_max", KEY_SIZE, "1M", AT(message_max), 0, NULL,
	  "Larger messages are refused, 64K to 8M.", 65536, 8u << 20 },
	{ "database_url", KEY_TEXT, NULL, AT(database_url), SECRET, "DATABASE_URL",
	  "PostgreSQL: postgresql://user:password@host/database. Eval hosts need none." },
	{ "event_retention", KEY_SPAN, "90d", AT(event_retention_usec), RELOAD, NULL,
	  "Events are removed so long after they came, once their evaluation has ended.", DAY_USEC,
	  36500 * DAY_USEC },
	{ "infrastructure_retries", KEY_COUNT, "3", AT(infrastructure_retries), RELOAD, NULL,
	  "How often an evaluation is begun anew because its host or worker failed, 0 to 100.", 0,
	  100 },
	{ "retry_delay", KEY_SPAN, "10s", AT(retry_delay_usec), RELOAD, NULL,
	  "Before the first automatic retry; doubled for each further one, up to 10 minutes.", 0,
	  600 * USEC_PER_SEC },
	{ "ssh_key", KEY_TEXT, NULL, AT(ssh_key), RELOAD, NULL,
	  "Private key (ed25519 or ECDSA) for reaching other hosts." },
	{ "ssh_known_hosts", KEY_TEXT, "/etc/zr/known_hosts", AT(ssh_known_hosts), RELOAD, NULL,
	  "Pinned host keys; a key that is not here is refused." },
	{ "fetch_timeout", KEY_SPAN, "30s", AT(fetch_timeout_usec), RELOAD, NULL,
	  "A transfer without a byte for so long is cut and tried again." },
	{ "lease", KEY_SPAN, "60s", AT(lease_usec), 0, NULL,
	  "A worker that is not heard of for so long has lost its work and stops it, 3s to 7d.",
	  3 * USEC_PER_SEC, 7 * DAY_USEC },
	{ "term_grace", KEY_SPAN, "2s", AT(term_grace_usec), RELOAD, NULL,
	  "Between SIGTERM and SIGKILL of a job that has to end." },
	{ "spool_reserve", KEY_SIZE, "256M", AT(spool_reserve), RELOAD, NULL,
	  "With less free space under state_dir no new work is taken." },
	{ "cache_max", KEY_SIZE, "20G", AT(cache_max), RELOAD, NULL,
	  "Submissions kept on an eval host; those unused for the longest time go first.", 1u << 20,
	  (uint64_t)1 << 50 },
	{ "log_cap", KEY_SIZE, "1M", AT(log_cap), RELOAD, NULL,
	  "Bytes kept of each log of a job: three quarters from its head, one from its tail." },
	{ "container_engine", KEY_TEXT, "podman", AT(container_engine), 0, NULL,
	  "What runs containers: podman or docker, or a path to one of them." },
	{ "timing_cpus", KEY_TEXT, NULL, AT(timing_cpus), 0, NULL,
	  "Processors, such as 2-3, that timed runs have alone; default: none." },
	{ "gpu_lock_dir", KEY_TEXT, "/run/lock/zr", AT(gpu_lock_dir), 0, NULL,
	  "Lock files of the GPUs; one folder for all zr roots of a host." },
	{ "gpu_index_lock_dir", KEY_TEXT, NULL, AT(gpu_index_lock_dir), 0, NULL,
	  "Another folder of locks, gpu_0.lock and so on, that programs beside zr keep to." },
	{ "gpu_settle", KEY_SPAN, "5s", AT(gpu_settle_usec), RELOAD, NULL,
	  "What a job left on a GPU may take so long to go; 0s: nobody looks.", 0,
	  600 * USEC_PER_SEC },
	{ "cuda_library", KEY_TEXT, NULL, AT(cuda_library), 0, NULL,
	  "The driver's library; default: libcuda.so.1 as the loader finds it." },
	{ "cgroup_parent", KEY_TEXT, NULL, AT(cgroup_parent), 0, "ZR_CGROUP_PARENT",
	  "Control group under which jobs get theirs; default: found at start." },
#undef AT
};

static struct cfg_opt_t host_opts[] = {
	CFG_STR("address", NULL, CFGF_NONE),
	CFG_INT("port", 22, CFGF_NONE),
	CFG_STR("user", "zr", CFGF_NONE),
	CFG_STR("state_dir", "/var/lib/zr", CFGF_NONE),
	CFG_END(),
};

static cfg_opt_t option(const struct key *k)
{
	cfg_opt_t text = CFG_STR(k->name, NULL, CFGF_NODEFAULT);
	cfg_opt_t list = CFG_STR_LIST(k->name, NULL, CFGF_NODEFAULT);
	cfg_opt_t size = CONF_SIZE(k->name, 0, CFGF_NODEFAULT);
	cfg_opt_t span = CONF_SPAN(k->name, 0, CFGF_NODEFAULT);
	cfg_opt_t count = CFG_INT(k->name, 0, CFGF_NODEFAULT);

	switch (k->type) {
	case KEY_LIST:
		return list;
	case KEY_SIZE:
		return size;
	case KEY_SPAN:
		return span;
	case KEY_COUNT:
		return count;
	case KEY_TEXT:
		break;
	}
	return text;
}

static int new_conf(cfg_t **ret, struct err *e)
{
	const cfg_opt_t tail[] = {
		CFG_SEC("host", host_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		CONF_END,
	};
	cfg_opt_t opts[ARRAY_LEN(keys) + ARRAY_LEN(tail)];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		opts[i] = option(&keys[i]);
	memcpy(opts + ARRAY_LEN(keys), tail, sizeof(tail));
	return conf_new(opts, ret, e);
}

/* A file that others may read holds no secret: neither by accident nor for convenience. */
static int check_secrets(cfg_t *own, const char *path, struct err *e)
{
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (!(keys[i].flags & SECRET) || !cfg_size(own, keys[i].name))
			continue;
		if (stat(path, &st) == 0 && (st.st_mode & S_IRWXO))
			return err_input(e,
					 "%s: holds '%s' and is open to everybody (chmod 0640 %s)",
					 path, keys[i].name, path);
	}
	return 0;
}

static int read_file(cfg_t *cfg, const char *path, struct err *e)
{
	auto_conf cfg_t *own = NULL; /* what this very file says */
	int r = conf_file(cfg, AT_FDCWD, path, e);

	if (r == 0)
		r = new_conf(&own, e);
	if (r == 0)
		r = conf_file(own, AT_FDCWD, path, e);
	return r < 0 ? r : check_secrets(own, path, e);
}

static int is_conf(const struct dirent *de)
{
	return de->d_name[0] != '.' && str_ends(de->d_name, ".conf");
}

static int read_drop_ins(cfg_t *cfg, const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	auto_free char *dir = NULL;
	struct dirent **names = NULL;
	int n, r = 0;

	if (str_fmt(&dir, "%.*sconf.d", slash ? (int)(slash - path + 1) : 0, path) < 0)
		return err_nomem(e);
	n = scandir(dir, &names, is_conf, alphasort);
	for (int i = 0; i < n; i++) {
		auto_free char *file = NULL;

		if (r == 0)
			r = str_fmt(&file, "%s/%s", dir, names[i]->d_name) < 0
				    ? err_nomem(e)
				    : read_file(cfg, file, e);
		free(names[i]);
	}
	free(names);
	return r;
}

static int read_all(const char *path, char **ret_file, cfg_t **ret, struct err *e)
{
	const char *named = path ? path : getenv("ZR_CONF");
	auto_free char *file = strdup(named && *named ? named : FILE_DEFAULT);
	auto_conf cfg_t *cfg = NULL;
	int r;

	if (!file)
		return err_nomem(e);
	r = new_conf(&cfg, e);
	if (r < 0)
		return r;
	r = read_file(cfg, file, e);
	if (r < 0 && !(r == -ENOENT && !(named && *named)))
		return r == -ENOENT ? err_input(e, "%s: no such file", file) : r;
	r = read_drop_ins(cfg, file, e);
	if (r < 0)
		return r;
	*ret_file = take_ptr(file);
	*ret = take_ptr(cfg);
	return 0;
}

static const char *env_value(const struct key *k)
{
	const char *v = k->env ? getenv(k->env) : NULL;

	return v && *v ? v : NULL;
}

/* systemd.exec(5), LoadCredential=: a file named like the key. */
static int credential(const struct key *k, char **ret, struct err *e)
{
	const char *dir = (k->flags & SECRET) ? getenv("CREDENTIALS_DIRECTORY") : NULL;
	auto_buf struct buf b = { 0 };
	auto_free char *path = NULL;
	int r;

	if (!dir)
		return 0;
	if (str_fmt(&path, "%s/%s", dir, k->name) < 0)
		return err_nomem(e);
	r = fd_read_file(AT_FDCWD, path, 4096, &b, e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	while (b.len && strchr(" \t\r\n", b.data[b.len - 1]))
		b.data[--b.len] = '\0';
	*ret = take_ptr(b.data);
	return 0;
}

static int fill_text(struct settings *s, const struct key *k, cfg_t *cfg, struct err *e)
{
	char **to = (char **)((char *)s + k->offset);
	const char *v = env_value(k);
	int r = v ? 0 : credential(k, to, e);

	if (r < 0 || *to)
		return r;
	if (!v && cfg_size(cfg, k->name))
		v = cfg_getstr(cfg, k->name);
	if (!v)
		v = k->def;
	*to = v ? strdup(v) : NULL;
	return v && !*to ? err_nomem(e) : 0;
}

static int fill_list(struct settings *s, const struct key *k, cfg_t *cfg, struct err *e)
{
	char ***to = (char ***)((char *)s + k->offset);
	unsigned n = cfg_size(cfg, k->name);

	for (unsigned i = 0; i < n; i++)
		if (strv_add(to, cfg_getnstr(cfg, k->name, i)) < 0)
			return err_nomem(e);
	if (n == 0 && k->def && strv_add(to, k->def) < 0)
		return err_nomem(e);
	return 0;
}

static char *number_text(char *out, size_t size, const struct key *k, uint64_t v)
{
	if (k->type == KEY_SPAN)
		return str_span_text(out, size, v);
	if (k->type == KEY_SIZE)
		return str_size_text(out, size, v);
	/* A negative number of the file came here as a huge one. */
	snprintf(out, size, "%lld", (long long)v);
	return out;
}

static int check_range(const struct settings *s, const struct key *k, uint64_t v, struct err *e)
{
	char text[32], min[32], max[32], want[80];

	if (!k->max || (v >= k->min && v <= k->max))
		return 0;
	snprintf(want, sizeof(want), "%s to %s", number_text(min, sizeof(min), k, k->min),
		 number_text(max, sizeof(max), k, k->max));
	return conf_bad(e, s->file, k->name, number_text(text, sizeof(text), k, v), want);
}

static int parse_number(const struct key *k, uint64_t *ret)
{
	if (k->type == KEY_COUNT)
		return str_u64(k->def, ret);
	return (k->type == KEY_SIZE ? str_size : str_span)(k->def, ret);
}

static int fill_number(struct settings *s, const struct key *k, cfg_t *cfg, struct err *e)
{
	uint64_t *to = (uint64_t *)((char *)s + k->offset);

	if (cfg_size(cfg, k->name))
		*to = (uint64_t)cfg_getint(cfg, k->name);
	else if (parse_number(k, to) < 0)
		return err_input(e, "bad default of '%s'", k->name);
	return check_range(s, k, *to, e);
}

static int fill_key(struct settings *s, const struct key *k, cfg_t *cfg, struct err *e)
{
	switch (k->type) {
	case KEY_TEXT:
		return fill_text(s, k, cfg, e);
	case KEY_LIST:
		return fill_list(s, k, cfg, e);
	case KEY_SIZE:
	case KEY_SPAN:
	case KEY_COUNT:
		return fill_number(s, k, cfg, e);
	}
	return 0;
}

static int fill_host(struct settings *s, cfg_t *sec, struct err *e)
{
	struct settings_host *h = &s->hosts[s->n_hosts];
	const char *address = cfg_getstr(sec, "address");
	long port = cfg_getint(sec, "port");

	if (!id_valid(cfg_title(sec)))
		return conf_bad(e, s->file, "host", cfg_title(sec),
				"letters, digits, '.', '_', '-'");
	if (port < 1 || port > 65535)
		return err_input(e, "%s: host '%s': port %ld is outside 1 to 65535", s->file,
				 cfg_title(sec), port);
	s->n_hosts++;
	h->port = (unsigned)port;
	h->name = strdup(cfg_title(sec));
	h->address = strdup(address ? address : cfg_title(sec));
	h->user = strdup(cfg_getstr(sec, "user"));
	h->state_dir = strdup(cfg_getstr(sec, "state_dir"));
	return h->name && h->address && h->user && h->state_dir ? 0 : err_nomem(e);
}

static int default_name(char **name, struct err *e)
{
	char host[ID_MAX + 1] = "";

	if (*name)
		return 0;
	if (gethostname(host, sizeof(host) - 1) < 0)
		return err_sys(e, "ask for the host's name");
	*name = strdup(host);
	return *name ? 0 : err_nomem(e);
}

static int default_dir(char **dir, const char *state_dir, const char *name, struct err *e)
{
	if (*dir)
		return 0;
	return str_fmt(dir, "%s/%s", state_dir, name) < 0 ? err_nomem(e) : 0;
}

static int default_submissions_url(struct settings *s, struct err *e)
{
	const char *url = s->submissions_url;
	int n;

	if (url && (str_starts(url, "file:///") || str_starts(url, "ssh://")))
		return 0;
	if (url)
		return conf_bad(e, s->file, "submissions_url", url,
				"file:///PATH or ssh://HOST/PATH");
	if (s->n_hosts)
		n = str_fmt(&s->submissions_url, "ssh://%s%s", s->host, s->submissions_dir);
	else
		n = str_fmt(&s->submissions_url, "file://%s", s->submissions_dir);
	return n < 0 ? err_nomem(e) : 0;
}

#define CHANNEL_DIR "dir:"

const char *settings_folder_of(const char *channel)
{
	const char *folder = channel + strlen(CHANNEL_DIR);

	return str_starts(channel, CHANNEL_DIR) && *folder ? folder : NULL;
}

const char *settings_channel_folder(const struct settings *s)
{
	return settings_folder_of(s->channel);
}

int settings_check_channel(const struct settings *s, struct err *e)
{
	if (!str_eq(s->channel, "amqp") && !settings_channel_folder(s))
		return conf_bad(e, s->file, "channel", s->channel, "amqp or dir:FOLDER");
	if (!str_eq(s->channel_watch, "inotify") && !str_eq(s->channel_watch, "poll"))
		return conf_bad(e, s->file, "channel_watch", s->channel_watch, "inotify or poll");
	return 0;
}

/* What depends on other values, and what no single key can check. */
static int finish(struct settings *s, struct err *e)
{
	int r = default_name(&s->host, e);

	if (r == 0)
		r = default_dir(&s->submissions_dir, s->state_dir, "submissions", e);
	if (r == 0)
		r = default_dir(&s->results_dir, s->state_dir, "results", e);
	if (r == 0)
		r = default_dir(&s->leaderboards_dir, s->state_dir, "leaderboards", e);
	if (r == 0)
		r = default_submissions_url(s, e);
	if (r < 0)
		return r;
	if (!id_valid(s->host))
		return conf_bad(e, s->file, "hostname", s->host, "letters, digits, '.', '_', '-'");
	for (char **p = s->pools; p && *p; p++)
		if (!id_valid(*p) || strchr(*p, '.'))
			return conf_bad(e, s->file, "pool", *p, "letters, digits, '_', '-'");
	return settings_check_channel(s, e);
}

int settings_load(const char *path, struct settings **ret, struct err *e)
{
	auto_obj(settings) s = calloc(1, sizeof(*s));
	auto_conf cfg_t *cfg = NULL;
	unsigned n;
	int r;

	if (!s)
		return err_nomem(e);
	r = read_all(path, &s->file, &cfg, e);
	for (size_t i = 0; i < ARRAY_LEN(keys) && r == 0; i++)
		r = fill_key(s, &keys[i], cfg, e);
	if (r < 0)
		return r;
	n = cfg_size(cfg, "host");
	s->hosts = calloc(n ? n : 1, sizeof(*s->hosts));
	if (!s->hosts)
		return err_nomem(e);
	for (unsigned i = 0; i < n && r == 0; i++)
		r = fill_host(s, cfg_getnsec(cfg, "host", i), e);
	if (r == 0)
		r = finish(s, e);
	if (r < 0)
		return r;
	*ret = take_ptr(s);
	return 0;
}

void settings_free(struct settings *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (keys[i].type == KEY_TEXT)
			free(*(char **)((char *)s + keys[i].offset));
		else if (keys[i].type == KEY_LIST)
			strv_free(*(char ***)((char *)s + keys[i].offset));
	}
	for (size_t i = 0; i < s->n_hosts; i++) {
		free(s->hosts[i].name);
		free(s->hosts[i].address);
		free(s->hosts[i].user);
		free(s->hosts[i].state_dir);
	}
	free(s->hosts);
	free(s->file);
	free(s);
}

const struct settings_host *settings_find_host(const struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->n_hosts; i++)
		if (str_eq(s->hosts[i].name, name))
			return &s->hosts[i];
	return NULL;
}

/* --- reading again ----------------------------------------------------------------------------- */

static bool same_list(char *const *a, char *const *b)
{
	for (; a && b && *a && *b; a++, b++)
		if (!str_eq(*a, *b))
			return false;
	return !(a && *a) && !(b && *b);
}

static bool same_value(const struct key *k, const void *a, const void *b)
{
	if (k->type == KEY_TEXT)
		return str_eq(*(char *const *)a, *(char *const *)b);
	if (k->type == KEY_LIST)
		return same_list(*(char **const *)a, *(char **const *)b);
	return *(const uint64_t *)a == *(const uint64_t *)b;
}

static bool same_hosts(const struct settings *a, const struct settings *b)
{
	if (a->n_hosts != b->n_hosts)
		return false;
	for (size_t i = 0; i < a->n_hosts; i++) {
		const struct settings_host *x = &a->hosts[i], *y = &b->hosts[i];

		if (!str_eq(x->name, y->name) || !str_eq(x->address, y->address) ||
		    x->port != y->port || !str_eq(x->user, y->user) ||
		    !str_eq(x->state_dir, y->state_dir))
			return false;
	}
	return true;
}

static void swap(void *a, void *b, size_t n)
{
	char tmp[VALUE_SIZE];

	memcpy(tmp, a, n);
	memcpy(a, b, n);
	memcpy(b, tmp, n);
}

static int add_name(struct buf *to, const char *name)
{
	return buf_fmt(to, "%s%s", to->len ? ", " : "", name);
}

void settings_changes_done(struct settings_changes *c)
{
	buf_done(&c->applied);
	buf_done(&c->restart);
}

int settings_apply(struct settings *s, struct settings *fresh, struct settings_changes *ret,
		   struct err *e)
{
	auto_done(settings_changes) c = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const struct key *k = &keys[i];
		char *ours = (char *)s + k->offset, *theirs = (char *)fresh + k->offset;

		if (same_value(k, ours, theirs))
			continue;
		if (add_name(k->flags & RELOAD ? &c.applied : &c.restart, k->name) < 0)
			return err_nomem(e);
		if (k->flags & RELOAD)
			swap(ours, theirs, VALUE_SIZE);
	}
	if (!same_hosts(s, fresh)) {
		if (add_name(&c.applied, "host") < 0)
			return err_nomem(e);
		swap(&s->hosts, &fresh->hosts, sizeof(void *));
		swap(&s->n_hosts, &fresh->n_hosts, sizeof(s->n_hosts));
	}
	*ret = c;
	c = (struct settings_changes){ 0 };
	return 0;
}

/* --- for people -------------------------------------------------------------------------------- */

static int key_text(const struct settings *s, const struct key *k, char **ret)
{
	const void *at = (const char *)s + k->offset;
	const char *text = k->type == KEY_TEXT ? *(char *const *)at : NULL;
	auto_buf struct buf b = { 0 };
	char number[32];
	int r = 0;

	if (k->type == KEY_LIST) {
		for (char *const *p = *(char **const *)at; p && *p && r == 0; p++)
			r = buf_fmt(&b, "%s%s", b.len ? ", " : "", *p);
		*ret = r == 0 ? (b.data ? take_ptr(b.data) : strdup("")) : NULL;
		return *ret ? 0 : -ENOMEM;
	}
	if (k->type != KEY_TEXT)
		text = number_text(number, sizeof(number), k, *(const uint64_t *)at);
	*ret = strdup(!text ? "" : (k->flags & SECRET) ? "(set, not shown)" : text);
	return *ret ? 0 : -ENOMEM;
}

/* In the order of fill_text(). */
static const char *origin(const struct key *k, cfg_t *cfg)
{
	auto_free char *secret = NULL;

	if (env_value(k))
		return "environment";
	if (credential(k, &secret, NULL) == 0 && secret)
		return "credential";
	return cfg_size(cfg, k->name) ? "file" : "default";
}

int settings_list(const char *path, struct settings_key **ret, size_t *ret_n, struct err *e)
{
	auto_obj(settings) s = NULL;
	auto_conf cfg_t *cfg = NULL;
	auto_free char *file = NULL;
	struct settings_key *list;
	int r = settings_load(path, &s, e);

	if (r == 0)
		r = read_all(path, &file, &cfg, e);
	if (r < 0)
		return r;
	list = calloc(ARRAY_LEN(keys), sizeof(*list));
	if (!list)
		return err_nomem(e);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		list[i].name = keys[i].name;
		list[i].help = keys[i].help;
		list[i].origin = origin(&keys[i], cfg);
		list[i].reload = keys[i].flags & RELOAD;
		if (key_text(s, &keys[i], &list[i].value) < 0) {
			settings_list_free(list, ARRAY_LEN(keys));
			return err_nomem(e);
		}
	}
	*ret = list;
	*ret_n = ARRAY_LEN(keys);
	return 0;
}

void settings_list_free(struct settings_key *k, size_t n)
{
	for (size_t i = 0; k && i < n; i++)
		free(k[i].value);
	free(k);
}

int settings_template(char **ret, struct err *e)
{
	auto_buf struct buf b = { 0 };
	int r = buf_str(&b, "# zr.conf(5): settings of a zr host. Every key with its default.\n"
			    "# Comments stand on lines of their own.\n");

	for (size_t i = 0; i < ARRAY_LEN(keys) && r == 0; i++) {
		const struct key *k = &keys[i];
		const char *quote = k->type == KEY_LIST ? "{\"" : k->type == KEY_TEXT ? "\"" : "";
		const char *unquote = k->type == KEY_LIST ? "\"}" : quote;

		r = buf_fmt(&b, "\n# %s\n#%s = %s%s%s\n", k->help, k->name, quote,
			    k->def ? k->def : "", unquote);
	}
	if (r == 0)
		r = buf_str(
			&b,
			"\n# How another host is reached over SSH; the title is its name.\n"
			"#host \"oberon\" {\n#\taddress = \"oberon.example.org\"\n#\tport = 22\n"
			"#\tuser = \"zr\"\n#\tstate_dir = \"/var/lib/zr\"\n#}\n");
	if (r < 0)
		return err_nomem(e);
	*ret = take_ptr(b.data);
	return 0;
}
