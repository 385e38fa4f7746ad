/* SPDX-License-Identifier: MIT */
#include "transfer/fetch.h"

#include <dirent.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/fd.h"
#include "base/time.h"
#include "transfer/bulk.h"
#include "transfer/sftp.h"

#define BULK_PACK_MIN    ((uint64_t)32 << 20)
#define BULK_RTT2_USEC   (12 * USEC_PER_MSEC)
#define BULK_WAIT_USEC   (10 * USEC_PER_SEC)
#define DEF_KEEP_AFTER   (30 * USEC_PER_SEC)
#define PIECE            ((size_t)256 << 10)
#define PROGRESS_USEC    (USEC_PER_SEC / 2)
#define PART_AGE_MAX_SEC 86400
#define LOCK_POLL_MS     20
#define TROUBLE_USEC     (30 * USEC_PER_SEC)
#define DEF_RETRIES      3
#define DEF_PAUSE        (USEC_PER_SEC / 2)

struct fetch {
	const struct fetch_spec *spec;
	struct manifest m;
	struct buf manifest_bytes;
	char hex[65];
	char stage[72], part_name[72];
	/* the source */
	struct ssh *ssh;
	struct sftp_file *remote;
	struct bulk *bulk;
	bool bulk_tried;
	bool by_entry; /* what comes is checked as content, not as chunks too */
	int local;
	char *pack_path;
	char *data; /* one chunk, when it comes from a file here */
	int lock;
	/* the chunks kept for a retry: a sparse file, made when the transfer takes long */
	int part;
	uint64_t part_end; /* its size when it was opened: what an earlier try kept */
	uint64_t started;
	size_t next;       /* chunk */
	const void *chunk; /* what of the last one is still to be given */
	size_t chunk_left;
	uint64_t fetched, last_progress;
	unsigned tries;
	uint64_t trouble; /* when the first of these tries failed */
	struct err *e;
};

static void fetch_done(struct fetch *f)
{
	bulk_free(f->bulk);
	sftp_file_free(f->remote);
	if (f->local >= 0)
		close(f->local);
	if (f->part >= 0)
		close(f->part);
	if (f->lock >= 0)
		close(f->lock);
	free(f->pack_path);
	free(f->data);
	buf_done(&f->manifest_bytes);
	manifest_done(&f->m);
}

void fetch_result_done(struct fetch_result *r)
{
	manifest_done(&r->manifest);
}

/* --- classes -------------------------------------------------------------------------------- */

enum fetch_class fetch_class(const struct err *e)
{
	switch (e->code) {
	case ENOKEY:
	case EKEYREJECTED:
	case EKEYREVOKED:
	case EKEYEXPIRED:
	case EPROTONOSUPPORT:
		return FETCH_PERMANENT;
	case ESTALE:
		return FETCH_CHANGED;
	case ENOSPC:
	case EDQUOT:
	case EEXIST:
		return FETCH_HOST;
	default:
		break;
	}
	if (e->kind == ERR_TRANSIENT)
		return FETCH_TRANSIENT;
	return e->kind == ERR_INPUT ? FETCH_INPUT : FETCH_HOST;
}

const char *fetch_class_name(enum fetch_class c)
{
	static const char *const names[FETCH_CLASS_N] = {
		[FETCH_TRANSIENT] = "transient", [FETCH_CHANGED] = "changed",
		[FETCH_PERMANENT] = "permanent", [FETCH_INPUT] = "input",
		[FETCH_HOST] = "host",
	};

	return names[c];
}

/* --- the source ----------------------------------------------------------------------------- */

static int changed(struct fetch *f, const char *what)
{
	return err_set(f->e, ESTALE, ERR_INPUT, "'%s' is not what was announced: %s",
		       STR_ESC(f->spec->dir), what);
}

static int get_session(struct fetch *f)
{
	return f->spec->session(f->spec->session_user, &f->ssh, f->e);
}

/* Room for the entries that are allowed, with long paths; more is not read. */
static size_t manifest_max(const struct fetch *f)
{
	uint64_t n = f->spec->limits.entries ? f->spec->limits.entries : MANIFEST_ENTRIES;
	uint64_t max =
		((uint64_t)2 << 20) + 600 * (n < MANIFEST_ENTRIES_MAX ? n : MANIFEST_ENTRIES_MAX);

	return max < MANIFEST_BYTES_MAX ? (size_t)max : MANIFEST_BYTES_MAX;
}

static int read_manifest_file(struct fetch *f, const char *path)
{
	int r;

	f->manifest_bytes.len = 0;
	if (!f->spec->session)
		return fd_read_file(AT_FDCWD, path, manifest_max(f), &f->manifest_bytes, f->e);
	r = get_session(f);
	return r < 0 ? r : sftp_read_file(f->ssh, path, manifest_max(f), &f->manifest_bytes, f->e);
}

static int open_pack(struct fetch *f)
{
	uint64_t size = 0;
	int r;

	if (f->spec->session) {
		r = get_session(f);
		return r < 0 ? r : sftp_open(f->ssh, f->pack_path, &f->remote, &size, f->e);
	}
	f->local = open(f->pack_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return f->local < 0 ? err_sys(f->e, "open %s", STR_ESC(f->pack_path)) : 0;
}

static int pread_all(int fd, char *data, size_t n, uint64_t offset, size_t *ret_n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t k = pread(fd, data + got, n - got, (off_t)(offset + got));

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			break;
		got += (size_t)k;
	}
	*ret_n = got;
	return 0;
}

/* Over a long line libssh2's read-ahead is the better one, and a small pack is here before another
 * session is. `rtt2` is the time of the two round trips that opening took. */
static void try_bulk(struct fetch *f, uint64_t rtt2)
{
	const struct bulk_spec spec = {
		.path = f->pack_path,
		.size = f->m.pack_size,
		.rtt_usec = rtt2 / 2,
		.wait_usec = BULK_WAIT_USEC,
		.abort_fd = f->spec->abort_fd,
	};
	int fd;

	if (f->bulk_tried || !f->spec->bulk || rtt2 > BULK_RTT2_USEC ||
	    f->m.pack_size < BULK_PACK_MIN)
		return;
	f->bulk_tried = true;
	/* Without it everything works as well, just slower. */
	if (f->spec->bulk(f->spec->session_user, &fd, NULL) < 0 ||
	    bulk_open(fd, &spec, &f->bulk, NULL) < 0)
		f->bulk = NULL;
}

/* As long as it is not there, its login above all, the slow way is the one that brings something. */
static bool bulk_is_there(struct fetch *f)
{
	int r = f->bulk ? bulk_ready(f->bulk, NULL) : 0;

	if (r > 0 && !f->by_entry) {
		f->by_entry = true;
		sftp_discard(f->remote);
	}
	if (r < 0) {
		bulk_free(f->bulk);
		f->bulk = NULL;
	}
	return r > 0;
}

static bool read_bulk(struct fetch *f, uint64_t offset, size_t n, const void **data, size_t *got)
{
	if (!bulk_is_there(f))
		return false;
	if (bulk_read(f->bulk, offset, n, data, got, NULL) == 0)
		return true;
	bulk_free(f->bulk);
	f->bulk = NULL;
	return false;
}

static int read_source(struct fetch *f, uint64_t offset, size_t n, const void **data, size_t *got)
{
	uint64_t start = time_mono_usec();
	bool fresh = !f->remote && f->local < 0;
	int r = fresh ? open_pack(f) : 0;

	if (r < 0)
		return r;
	if (fresh && f->remote)
		try_bulk(f, time_mono_usec() - start);
	if (read_bulk(f, offset, n, data, got))
		return 0;
	if (f->remote)
		return sftp_read(f->remote, offset, n, data, got, f->e);
	*data = f->data;
	r = pread_all(f->local, f->data, n, offset, got);
	return r < 0 ? err_errno(f->e, r, "read %s", STR_ESC(f->pack_path)) : 0;
}

/* --- tries ---------------------------------------------------------------------------------- */

static int pause_before_retry(struct fetch *f)
{
	uint64_t usec = f->spec->pause_usec ? f->spec->pause_usec : DEF_PAUSE;
	struct pollfd p = { .fd = f->spec->abort_fd };
	int ms;

	/* The first retry is at once: most cuts are over by then. */
	if (f->tries == 1)
		return 0;
	usec <<= f->tries - 2 < 6 ? f->tries - 2 : 6;
	ms = (int)((usec / 2 + time_mono_usec() % usec) / 1000);
	if (poll(&p, 1, ms) > 0)
		return err_set(f->e, ECANCELED, ERR_TRANSIENT, "given up by the caller");
	return 0;
}

/* Whether the failure in r is worth a new connection; then the old file is closed. */
static bool try_again(struct fetch *f, int *r)
{
	unsigned max = f->spec->retries ? f->spec->retries : DEF_RETRIES;

	if (*r >= 0 || !f->spec->session || *r == -ECANCELED ||
	    fetch_class(f->e) != FETCH_TRANSIENT)
		return false;
	if (f->tries == 0)
		f->trouble = time_mono_usec();
	if (f->tries >= max || time_mono_usec() - f->trouble > TROUBLE_USEC)
		return false;
	f->tries++;
	sftp_file_free(f->remote);
	f->remote = NULL;
	if (pause_before_retry(f) < 0) {
		*r = -ECANCELED;
		return false;
	}
	return true;
}

static int load_manifest(struct fetch *f)
{
	auto_free char *path = NULL;
	uint8_t sum[HASH_SIZE];
	struct hash h;
	int r;

	if (str_fmt(&path, "%s/%s", f->spec->dir, MANIFEST_FILE) < 0)
		return err_nomem(f->e);
	do
		r = read_manifest_file(f, path);
	while (try_again(f, &r));
	if (r == -ENOENT)
		return err_set(f->e, ESTALE, ERR_INPUT,
			       "'%s' holds no sealed object: that folder or its " MANIFEST_FILE
			       " is missing; was it deleted or moved?",
			       STR_ESC(f->spec->dir));
	if (r < 0)
		return r;
	f->tries = 0;
	hash_init(&h);
	hash_add(&h, f->manifest_bytes.data, f->manifest_bytes.len);
	hash_end(&h, sum);
	if (memcmp(sum, f->spec->root, HASH_SIZE) != 0)
		return changed(f, "its manifest has another hash");
	return manifest_parse(f->manifest_bytes.data, f->manifest_bytes.len,
			      f->spec->limits.entries, &f->m, f->e);
}

/* --- chunks --------------------------------------------------------------------------------- */

/* Work on a chunk is done in pieces; in between the next chunk is taken in. */
static void pump(const struct fetch *f)
{
	if (f->bulk)
		bulk_pump(f->bulk);
}

static bool chunk_right(const struct fetch *f, const void *data, size_t n)
{
	uint8_t sum[HASH_SIZE];
	const char *p = data;
	struct hash h;

	hash_init(&h);
	for (size_t k; n; p += k, n -= k) {
		k = n < PIECE ? n : PIECE;
		hash_add(&h, p, k);
		pump(f);
	}
	hash_end(&h, sum);
	return memcmp(sum, f->m.chunks[f->next], HASH_SIZE) == 0;
}

static bool chunk_from_part(struct fetch *f, uint64_t offset, size_t n)
{
	size_t got = 0;

	return f->part >= 0 && f->part_end >= offset + n &&
	       lseek(f->part, (off_t)offset, SEEK_DATA) == (off_t)offset &&
	       pread_all(f->part, f->data, n, offset, &got) == 0 && got == n &&
	       chunk_right(f, f->data, n);
}

static int open_part(struct fetch *f, int flags)
{
	struct stat st;

	f->part = openat(f->spec->staging_dirfd, f->part_name,
			 O_RDWR | flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->part < 0 && errno == ENOENT)
		return 0;
	if (f->part < 0 || fstat(f->part, &st) < 0)
		return err_sys(f->e, "open %s", f->part_name);
	f->part_end = (uint64_t)st.st_size;
	return 0;
}

/* A transfer that is over in seconds is begun anew if it fails for good, and spared the writing. */
static int keep_chunk(struct fetch *f, uint64_t offset, const void *data, size_t n)
{
	const char *p = data;

	if (f->part < 0) {
		uint64_t after = f->spec->keep_after_usec;
		int r;

		after = after ? after : DEF_KEEP_AFTER;
		if (!f->spec->session || time_mono_usec() - f->started < after)
			return 0;
		r = open_part(f, O_CREAT);
		if (r < 0)
			return r;
	}
	while (n) {
		ssize_t k = pwrite(f->part, p, n, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_sys(f->e, "write %s", f->part_name);
		p += k;
		n -= (size_t)k;
		offset += (uint64_t)k;
	}
	return 0;
}

/* Reads until the chunk is right; one that is wrong twice was changed at the source. */
static int chunk_from_source(struct fetch *f, uint64_t offset, size_t n, const void **ret)
{
	bool wrong = false;
	size_t got = 0;
	int r;

	for (;;) {
		r = read_source(f, offset, n, ret, &got);
		if (try_again(f, &r))
			continue;
		if (r == -ENOENT)
			return changed(f, "there is no pack");
		if (r < 0)
			return r;
		if (got == n && (f->by_entry || chunk_right(f, *ret, n)))
			break;
		if (wrong)
			return changed(f, got < n ? "the pack is shorter"
						  : "a chunk of the pack has another hash");
		wrong = true;
		bulk_free(f->bulk);
		f->bulk = NULL;
		if (f->remote)
			sftp_discard(f->remote);
	}
	f->tries = 0;
	f->fetched += n;
	return keep_chunk(f, offset, *ret, n);
}

static void tell_progress(struct fetch *f, uint64_t bytes)
{
	uint64_t now = time_mono_usec();

	if (!f->spec->progress || now - f->last_progress < PROGRESS_USEC)
		return;
	f->last_progress = now;
	f->spec->progress(f->spec->progress_user, bytes, f->m.pack_size);
}

static int next_chunk(struct fetch *f, const void **ret_data, size_t *ret_n)
{
	uint64_t offset = f->next * MANIFEST_CHUNK, left = f->m.pack_size - offset;
	size_t n = left < MANIFEST_CHUNK ? (size_t)left : (size_t)MANIFEST_CHUNK;
	int r = 0;

	*ret_n = 0;
	if (f->next == f->m.n_chunks)
		return 0;
	if (chunk_from_part(f, offset, n))
		*ret_data = f->data;
	else
		r = chunk_from_source(f, offset, n, ret_data);
	if (r < 0)
		return r;
	f->next++;
	*ret_n = n;
	tell_progress(f, offset + n);
	return 0;
}

/* An extract_read_fn. */
static int next_piece(void *user, const void **ret_data, size_t *ret_n, struct err *e)
{
	struct fetch *f = user;
	int r;

	f->e = e;
	if (f->spec->stop && *f->spec->stop)
		return err_set(e, ECANCELED, ERR_TRANSIENT, "given up by the caller");
	if (f->chunk_left == 0) {
		r = next_chunk(f, &f->chunk, &f->chunk_left);
		if (r < 0)
			return r;
	}
	pump(f);
	*ret_data = f->chunk;
	*ret_n = f->chunk_left < PIECE ? f->chunk_left : PIECE;
	f->chunk = (const char *)f->chunk + *ret_n;
	f->chunk_left -= *ret_n;
	return 0;
}

/* --- staging and target --------------------------------------------------------------------- */

static int check_space(struct fetch *f)
{
	/* Content, inodes and their blocks, and the kept chunks while they are needed. */
	uint64_t need = f->m.bytes + 4096 * (uint64_t)f->m.n_entries + f->spec->reserve_bytes;
	struct statvfs v;

	if (f->spec->session && f->m.n_chunks > 1)
		need += f->m.pack_size;
	if (fstatvfs(f->spec->staging_dirfd, &v) < 0)
		return err_sys(f->e, "look at the staging file system");
	if ((uint64_t)v.f_bavail * v.f_frsize < need)
		return err_set(f->e, ENOSPC, ERR_HOST,
			       "the staging file system has less than the %" PRIu64
			       " bytes free that this object needs",
			       need);
	return 0;
}

static int open_stage(struct fetch *f, int *ret_fd)
{
	int r = fd_rmtree(f->spec->staging_dirfd, f->stage, f->e);

	if (r == 0 && mkdirat(f->spec->staging_dirfd, f->stage, 0750) < 0)
		r = err_sys(f->e, "make folder %s", f->stage);
	return r < 0 ? r : fd_open_dir(f->spec->staging_dirfd, f->stage, ret_fd, f->e);
}

static int write_kept_manifest(struct fetch *f, int stage)
{
	if (!f->spec->keep_manifest)
		return 0;
	if (mkdirat(stage, ".zr", 0750) < 0 && errno != EEXIST)
		return err_sys(f->e, "make folder .zr");
	return fd_write_file(stage, MANIFEST_RESERVED, f->manifest_bytes.data,
			     f->manifest_bytes.len, 0640, true, f->e);
}

/* 1: the target is there and is this object; its manifest is read if it has one. */
static int is_published(struct fetch *f)
{
	const char *slash = strrchr(f->spec->target, '/');
	auto_buf struct buf b = { 0 };
	auto_close int dir = -1;
	uint8_t sum[HASH_SIZE];
	struct hash h;

	if (fd_open_dir(AT_FDCWD, f->spec->target, &dir, f->e) < 0)
		return f->e->code == ENOENT ? 0 : -f->e->code;
	if (fd_read_file(dir, MANIFEST_RESERVED, MANIFEST_BYTES_MAX, &b, NULL) == 0) {
		hash_init(&h);
		hash_add(&h, b.data, b.len);
		hash_end(&h, sum);
		if (memcmp(sum, f->spec->root, HASH_SIZE) == 0) {
			int r = manifest_parse(b.data, b.len, MANIFEST_ENTRIES_MAX, &f->m, f->e);

			return r < 0 ? r : 1;
		}
	}
	if (str_eq(slash ? slash + 1 : f->spec->target, f->hex))
		return 1;
	return err_set(f->e, EEXIST, ERR_HOST, "'%s' is there and is not this object",
		       STR_ESC(f->spec->target));
}

static int publish(struct fetch *f, bool *ret_already)
{
	int r = extract_publish(&f->m, f->spec->staging_dirfd, f->stage, f->spec->target, f->e);

	if (r != -EEXIST)
		return r;
	/* Somebody else was first with the same object. */
	manifest_done(&f->m);
	r = is_published(f);
	*ret_already = r == 1;
	return r < 0 ? r : 0;
}

static int extract(struct fetch *f, int *ret_stage)
{
	int r = open_stage(f, ret_stage);

	return r < 0 ? r : extract_tree(&f->m, next_piece, f, *ret_stage, f->e);
}

/* Something is wrong with what came by the fast way. Which chunk it is, and whether it is right at the
 * second reading, is for the slow one to find out. */
static int extract_again(struct fetch *f, int *ret_stage)
{
	f->by_entry = false;
	bulk_free(f->bulk);
	f->bulk = NULL;
	if (f->remote)
		sftp_discard(f->remote);
	f->next = f->chunk_left = 0;
	close(take_fd(*ret_stage));
	*f->e = (struct err){ 0 };
	return extract(f, ret_stage);
}

static int transfer(struct fetch *f, bool *ret_already)
{
	auto_close int stage = -1;
	int r = extract_check_limits(&f->m, &f->spec->limits, f->e);

	if (r == 0 && !str_eq(f->m.name, f->spec->name))
		r = err_input(f->e, "the object is a '%s', not a '%s'", f->m.name, f->spec->name);
	r = r < 0 ? r : check_space(f);
	r = r < 0 ? r : open_part(f, 0);
	f->started = time_mono_usec();
	r = r < 0 ? r : extract(f, &stage);
	if (r < 0 && f->by_entry && stage >= 0 && f->e->kind == ERR_INPUT)
		r = extract_again(f, &stage);
	r = r < 0 ? r : write_kept_manifest(f, stage);
	return r < 0 ? r : publish(f, ret_already);
}

/* What is of use to the next try stays. */
static void leave_staging(struct fetch *f, int r)
{
	bool keep =
		r < 0 && (fetch_class(f->e) == FETCH_TRANSIENT || fetch_class(f->e) == FETCH_HOST);

	/* What cannot be removed now, fetch_clean_staging() removes. */
	if (fd_rmtree(f->spec->staging_dirfd, f->stage, NULL) < 0 || keep)
		return;
	(void)unlinkat(f->spec->staging_dirfd, f->part_name, 0);
}

/*
 * Processes may share a staging folder. Each holds a lock for its object: one byte, found by the
 * hash, of one file, so that no lock files pile up.
 */
static int try_lock(int fd, const uint8_t root[HASH_SIZE])
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	uint64_t at;

	memcpy(&at, root, sizeof(at));
	l.l_start = (off_t)(at >> 2);
	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static int open_lock(int staging_dirfd, int *ret_fd, struct err *e)
{
	int fd = openat(staging_dirfd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_sys(e, "open the lock of the staging folder");
	*ret_fd = fd;
	return 0;
}

/* Waits while another process fetches the same object: mostly it is published then. */
static int take_lock(struct fetch *f)
{
	struct pollfd p = { .fd = f->spec->abort_fd };
	int r = open_lock(f->spec->staging_dirfd, &f->lock, f->e);

	if (r < 0)
		return r;
	while ((r = try_lock(f->lock, f->spec->root)) == -EAGAIN || r == -EACCES)
		if (poll(&p, 1, LOCK_POLL_MS) > 0)
			return err_set(f->e, ECANCELED, ERR_TRANSIENT, "given up by the caller");
	return r < 0 ? err_errno(f->e, r, "lock the staging folder") : 0;
}

static int prepare(struct fetch *f)
{
	hash_hex(f->hex, f->spec->root);
	snprintf(f->stage, sizeof(f->stage), "%s.tmp", f->hex);
	snprintf(f->part_name, sizeof(f->part_name), "%s.part", f->hex);
	f->data = malloc(MANIFEST_CHUNK);
	if (!f->data || str_fmt(&f->pack_path, "%s/%s.tar.zst", f->spec->dir, f->spec->name) < 0)
		return err_nomem(f->e);
	return 0;
}

int fetch_object(const struct fetch_spec *spec, struct fetch_result *ret, struct err *e)
{
	struct err own = { 0 };
	__attribute__((cleanup(fetch_done))) struct fetch f = {
		.spec = spec, .local = -1, .part = -1, .lock = -1, .e = e ? e : &own
	};
	bool already;
	int r = prepare(&f);

	r = r < 0 ? r : take_lock(&f);
	r = r < 0 ? r : is_published(&f);
	already = r == 1;
	if (r == 0) {
		r = load_manifest(&f);
		if (r == 0) {
			r = transfer(&f, &already);
			leave_staging(&f, r);
		}
	}
	if (r < 0)
		return r;
	*ret = (struct fetch_result){ .already = already,
				      .fetched_bytes = f.fetched,
				      .manifest = f.m };
	f.m = (struct manifest){ 0 };
	return 0;
}

/* --- what a crash leaves -------------------------------------------------------------------- */

static bool is_old(int dirfd, const char *name)
{
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       now.tv_sec - st.st_mtim.tv_sec >= PART_AGE_MAX_SEC;
}

/* Only what nobody works on: the lock is held for the moment of removal. */
static int clean_entry(int dirfd, const char *name, struct err *e)
{
	auto_close int lock = -1;
	uint8_t root[HASH_SIZE];
	char hex[65] = "";
	int r;

	if (!str_ends(name, ".tmp") && !(str_ends(name, ".part") && is_old(dirfd, name)))
		return 0;
	if (strlen(name) > 64)
		memcpy(hex, name, 64);
	if (hash_parse_hex(hex, root) < 0)
		return 0;
	r = open_lock(dirfd, &lock, e);
	if (r < 0 || try_lock(lock, root) < 0)
		return r;
	return fd_rmtree(dirfd, name, e);
}

int fetch_clean_staging(int staging_dirfd, struct err *e)
{
	int fd = openat(staging_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	if (!d) {
		r = err_sys(e, "read the staging folder");
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (de = readdir(d)))
		r = clean_entry(fd, de->d_name, e);
	closedir(d);
	return r;
}
