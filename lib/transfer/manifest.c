/* SPDX-License-Identifier: MIT */
#include "transfer/manifest.h"

#include <inttypes.h>
#include <string.h>

#include "transfer/path.h"

static const char *const type_words[] = {
	"symlink",      "hardlink", "fifo", "socket", "char-device",
	"block-device", "file",     "dir",  "other",
};
static const char *const limit_words[] = { "", "entries", "bytes", "file", "depth" };

/* The list's own constant, so that no text of a peer is kept where a word is meant. */
static const char *known_word(const char *const *words, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(words[i], s))
			return words[i];
	return NULL;
}

void manifest_done(struct manifest *m)
{
	for (size_t i = 0; i < m->n_entries; i++)
		free(m->entries[i].path);
	for (size_t i = 0; i < m->n_refused; i++) {
		free(m->refused[i].path);
		free(m->refused[i].reason);
	}
	free(m->entries);
	free(m->refused);
	free(m->chunks);
	*m = (struct manifest){ 0 };
}

/* --- building ------------------------------------------------------------------------------- */

static int grow(void *array, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap ? *cap * 2 : 16;
	void **p = array, *q;

	if (n < *cap)
		return 0;
	q = reallocarray(*p, more, size);
	if (!q)
		return -ENOMEM;
	*p = q;
	*cap = more;
	return 0;
}

int manifest_add(struct manifest *m, enum manifest_type type, const char *path, uint64_t size,
		 const uint8_t *sha256)
{
	struct manifest_entry *en;
	char *copy;

	if (grow(&m->entries, &m->cap_entries, m->n_entries, sizeof(*m->entries)) < 0)
		return -ENOMEM;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	en = &m->entries[m->n_entries++];
	*en = (struct manifest_entry){ .path = copy, .size = size, .type = type };
	if (sha256)
		memcpy(en->sha256, sha256, HASH_SIZE);
	if (type == MANIFEST_DIR)
		m->dirs++;
	else
		m->files++;
	m->bytes += size;
	return 0;
}

static int list_refused(struct manifest *m, const char *type, const char *path, const char *reason)
{
	auto_free char *p = NULL, *r = NULL;

	m->refused_total++;
	if (m->n_refused == MANIFEST_REFUSED_MAX)
		return 0;
	if (grow(&m->refused, &m->cap_refused, m->n_refused, sizeof(*m->refused)) < 0)
		return -ENOMEM;
	type = known_word(type_words, ARRAY_LEN(type_words), type);
	p = strdup(path);
	r = strdup(reason);
	if (!p || !r)
		return -ENOMEM;
	m->refused[m->n_refused++] = (struct manifest_refused){
		.path = take_ptr(p),
		.type = type ? type : "other",
		.reason = take_ptr(r),
	};
	return 0;
}

int manifest_refuse(struct manifest *m, const char *type, const char *path, const char *reason)
{
	char text[PATH_BYTES_MAX + 64];

	return list_refused(m, type, str_escape(text, sizeof(text), path, strlen(path)),
			    STR_ESC(reason));
}

int manifest_add_chunk(struct manifest *m, const uint8_t sha256[HASH_SIZE])
{
	if (grow(&m->chunks, &m->cap_chunks, m->n_chunks, sizeof(*m->chunks)) < 0)
		return -ENOMEM;
	memcpy(m->chunks[m->n_chunks++], sha256, HASH_SIZE);
	return 0;
}

static int cmp_entry(const void *a, const void *b)
{
	const struct manifest_entry *x = a, *y = b;

	return strcmp(x->path, y->path);
}

/* --- writing -------------------------------------------------------------------------------- */

static int put_string(struct buf *b, const char *s)
{
	size_t n = strlen(s);

	if (buf_reserve(b, 2 * n + 2) < 0)
		return -ENOMEM;
	b->data[b->len++] = '"';
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '"' || s[i] == '\\')
			b->data[b->len++] = '\\';
		b->data[b->len++] = s[i];
	}
	b->data[b->len++] = '"';
	b->data[b->len] = '\0';
	return 0;
}

static int put_hash(struct buf *b, const uint8_t sum[HASH_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	if (buf_reserve(b, 2 * HASH_SIZE + 2) < 0)
		return -ENOMEM;
	b->data[b->len++] = '"';
	for (size_t i = 0; i < HASH_SIZE; i++) {
		b->data[b->len++] = digits[sum[i] >> 4];
		b->data[b->len++] = digits[sum[i] & 15];
	}
	b->data[b->len++] = '"';
	b->data[b->len] = '\0';
	return 0;
}

static int put_entry(struct buf *b, const struct manifest_entry *en)
{
	int r = buf_str(b, "{\"path\":");

	r = r < 0 ? r : put_string(b, en->path);
	if (en->type == MANIFEST_DIR)
		return r < 0 ? r : buf_str(b, ",\"type\":\"dir\"}");
	r = r < 0 ? r : buf_fmt(b, ",\"type\":\"file\",\"size\":%" PRIu64 ",\"sha256\":", en->size);
	r = r < 0 ? r : put_hash(b, en->sha256);
	return r < 0 ? r : buf_str(b, "}");
}

static int put_refused(struct buf *b, const struct manifest_refused *f)
{
	int r = buf_str(b, "{\"path\":");

	r = r < 0 ? r : put_string(b, f->path);
	r = r < 0 ? r : buf_fmt(b, ",\"type\":\"%s\",\"reason\":", f->type);
	r = r < 0 ? r : put_string(b, f->reason);
	return r < 0 ? r : buf_str(b, "}");
}

/* What stands before element i: every element has a line of its own. */
static const char *line_start(size_t i)
{
	return i ? ",\n" : "\n";
}

static int put_head(const struct manifest *m, struct buf *b)
{
	int r = buf_fmt(b,
			"{\"zr\":\"1.0\",\"type\":\"manifest\",\"name\":\"%s\",\"files\":%" PRIu64
			",\"dirs\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"truncated\":\"%s\",\n",
			m->name, m->files, m->dirs, m->bytes, m->truncated);

	r = r < 0 ? r
		  : buf_fmt(b,
			    "\"pack\":{\"size\":%" PRIu64 ",\"chunk_size\":%" PRIu64 ",\"sha256\":",
			    m->pack_size, MANIFEST_CHUNK);
	r = r < 0 ? r : put_hash(b, m->pack_sha256);
	r = r < 0 ? r : buf_str(b, ",\"chunks\":[");
	for (size_t i = 0; i < m->n_chunks && r >= 0; i++) {
		r = buf_str(b, line_start(i));
		r = r < 0 ? r : put_hash(b, m->chunks[i]);
	}
	return r < 0 ? r : buf_str(b, "]},\n");
}

static int put_lists(const struct manifest *m, struct buf *b)
{
	int r = buf_str(b, "\"entries\":[");

	for (size_t i = 0; i < m->n_entries && r >= 0; i++) {
		r = buf_str(b, line_start(i));
		r = r < 0 ? r : put_entry(b, &m->entries[i]);
	}
	r = r < 0 ? r
		  : buf_fmt(b, "],\n\"refused_total\":%" PRIu64 ",\"refused\":[", m->refused_total);
	for (size_t i = 0; i < m->n_refused && r >= 0; i++) {
		r = buf_str(b, line_start(i));
		r = r < 0 ? r : put_refused(b, &m->refused[i]);
	}
	return r < 0 ? r : buf_str(b, "]}\n");
}

int manifest_encode(struct manifest *m, struct buf *b, uint8_t ret_root[HASH_SIZE], struct err *e)
{
	size_t start = b->len;
	struct hash h;
	int r;

	if (m->n_entries)
		qsort(m->entries, m->n_entries, sizeof(*m->entries), cmp_entry);
	for (size_t i = 1; i < m->n_entries; i++)
		if (str_eq(m->entries[i - 1].path, m->entries[i].path))
			return err_input(e, "path '%s' would be packed twice",
					 STR_ESC(m->entries[i].path));
	r = put_head(m, b);
	r = r < 0 ? r : put_lists(m, b);
	if (r < 0)
		return err_nomem(e);
	hash_init(&h);
	hash_add(&h, b->data + start, b->len - start);
	hash_end(&h, ret_root);
	return 0;
}

/* --- reading -------------------------------------------------------------------------------- */

struct cursor {
	const char *start, *p, *end;
	struct err *e;
};

static int bad(const struct cursor *c, const char *what)
{
	return err_input(c->e, "manifest, byte %zu: %s", (size_t)(c->p - c->start), what);
}

static bool at(const struct cursor *c, const char *literal)
{
	size_t n = strlen(literal);

	return (size_t)(c->end - c->p) >= n && memcmp(c->p, literal, n) == 0;
}

static int expect(struct cursor *c, const char *literal)
{
	if (!at(c, literal))
		return err_input(c->e, "manifest, byte %zu: '%s' expected",
				 (size_t)(c->p - c->start), STR_ESC(literal));
	c->p += strlen(literal);
	return 0;
}

/* One value has one spelling: no sign, no leading zero. */
static int get_u64(struct cursor *c, uint64_t *ret)
{
	const char *s = c->p;
	uint64_t v = 0;

	while (c->p < c->end && *c->p >= '0' && *c->p <= '9') {
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*c->p - '0'), &v) || v > INT64_MAX)
			return bad(c, "a number out of range");
		c->p++;
	}
	if (c->p == s || (*s == '0' && c->p - s > 1))
		return bad(c, "a number expected");
	*ret = v;
	return 0;
}

static int get_hash(struct cursor *c, uint8_t ret[HASH_SIZE])
{
	char hex[2 * HASH_SIZE + 1] = { 0 };

	if ((size_t)(c->end - c->p) < 2 * HASH_SIZE + 2 || c->p[0] != '"' ||
	    c->p[2 * HASH_SIZE + 1] != '"')
		return bad(c, "a SHA-256 expected");
	memcpy(hex, c->p + 1, 2 * HASH_SIZE);
	if (hash_parse_hex(hex, ret) < 0)
		return bad(c, "a SHA-256 in lower case expected");
	c->p += 2 * HASH_SIZE + 2;
	return 0;
}

static bool is_control(const struct cursor *c)
{
	const unsigned char *p = (const unsigned char *)c->p;

	return *p < 0x20 || *p == 0x7f || (*p == 0xc2 && c->p + 1 < c->end && p[1] < 0xa0);
}

/* Into out[size]; printable UTF-8 only. The length is never 0 unless `empty`. */
static int get_string(struct cursor *c, char *out, size_t size, bool empty)
{
	size_t n = 0;

	if (expect(c, "\"") < 0)
		return -EINVAL;
	for (; c->p < c->end && *c->p != '"'; c->p++) {
		if (*c->p == '\\') {
			c->p++;
			if (c->p == c->end || (*c->p != '"' && *c->p != '\\'))
				return bad(c, "an escape that the canonical form does not have");
		}
		if (is_control(c))
			return bad(c, "a control character");
		if (n + 1 >= size)
			return bad(c, "a text that is too long");
		out[n++] = *c->p;
	}
	out[n] = '\0';
	if (expect(c, "\"") < 0)
		return -EINVAL;
	if (n == 0 && !empty)
		return bad(c, "an empty text");
	return str_utf8_valid(out, n) ? 0 : bad(c, "a text that is not UTF-8");
}

static int read_name(struct cursor *c, char name[65])
{
	if (get_string(c, name, 65, false) < 0)
		return -EINVAL;
	for (const char *p = name; *p; p++)
		if ((*p < 'a' || *p > 'z') && *p != '-')
			return bad(c, "a name of lower-case letters expected");
	return 0;
}

static int read_head(struct cursor *c, struct manifest *ret, struct manifest *want)
{
	char word[sizeof(ret->truncated)];

	if (expect(c, "{\"zr\":\"1.0\",\"type\":\"manifest\",\"name\":") < 0 ||
	    read_name(c, ret->name) < 0 || expect(c, ",\"files\":") < 0 ||
	    get_u64(c, &want->files) < 0 || expect(c, ",\"dirs\":") < 0 ||
	    get_u64(c, &want->dirs) < 0 || expect(c, ",\"bytes\":") < 0 ||
	    get_u64(c, &want->bytes) < 0 || expect(c, ",\"truncated\":") < 0 ||
	    get_string(c, word, sizeof(word), true) < 0 || expect(c, ",\n") < 0)
		return -EINVAL;
	if (!known_word(limit_words, ARRAY_LEN(limit_words), word))
		return bad(c, "an unknown limit");
	memcpy(ret->truncated, word, sizeof(word));
	return 0;
}

static int read_pack(struct cursor *c, struct manifest *ret)
{
	uint64_t chunk = 0, want;

	if (expect(c, "\"pack\":{\"size\":") < 0 || get_u64(c, &ret->pack_size) < 0 ||
	    expect(c, ",\"chunk_size\":") < 0 || get_u64(c, &chunk) < 0 ||
	    expect(c, ",\"sha256\":") < 0 || get_hash(c, ret->pack_sha256) < 0 ||
	    expect(c, ",\"chunks\":[") < 0)
		return -EINVAL;
	if (chunk != MANIFEST_CHUNK || ret->pack_size == 0)
		return bad(c, "a pack of another kind");
	want = (ret->pack_size + MANIFEST_CHUNK - 1) / MANIFEST_CHUNK;
	while (!at(c, "]")) {
		uint8_t sum[HASH_SIZE];

		if (ret->n_chunks == want)
			return bad(c, "more chunks than the pack has");
		if (expect(c, line_start(ret->n_chunks)) < 0 || get_hash(c, sum) < 0)
			return -EINVAL;
		if (manifest_add_chunk(ret, sum) < 0)
			return err_nomem(c->e);
	}
	if (ret->n_chunks != want)
		return bad(c, "fewer chunks than the pack has");
	return expect(c, "]},\n");
}

bool manifest_path_reserved(enum manifest_type type, const char *path)
{
	auto_buf struct buf fold = { 0 };

	if (path[0] != '.' || (path[1] != 'z' && path[1] != 'Z'))
		return false;
	if (path_fold(&fold, path, strlen(path)) < 0 || str_eq(fold.data, MANIFEST_RESERVED))
		return true;
	return str_eq(fold.data, ".zr") && (type != MANIFEST_DIR || !str_eq(path, ".zr"));
}

static int check_entry(struct cursor *c, const struct manifest *m, const char *path,
		       enum manifest_type type)
{
	const char *why = path_check(path, strlen(path));

	if (why)
		return err_input(c->e, "manifest: path '%s': %s", STR_ESC(path), why);
	if (m->n_entries && strcmp(m->entries[m->n_entries - 1].path, path) >= 0)
		return err_input(c->e, "manifest: path '%s' is out of order or there twice",
				 STR_ESC(path));
	if (manifest_path_reserved(type, path))
		return err_input(c->e, "manifest: path '%s' is reserved", STR_ESC(path));
	return 0;
}

static int read_entry(struct cursor *c, struct manifest *ret)
{
	enum manifest_type type = MANIFEST_REG;
	char path[PATH_BYTES_MAX + 1];
	uint8_t sum[HASH_SIZE];
	uint64_t size = 0;

	if (expect(c, "{\"path\":") < 0 || get_string(c, path, sizeof(path), false) < 0)
		return -EINVAL;
	if (at(c, ",\"type\":\"dir\"}")) {
		type = MANIFEST_DIR;
		c->p += strlen(",\"type\":\"dir\"}");
	} else if (expect(c, ",\"type\":\"file\",\"size\":") < 0 || get_u64(c, &size) < 0 ||
		   expect(c, ",\"sha256\":") < 0 || get_hash(c, sum) < 0 || expect(c, "}") < 0)
		return -EINVAL;
	if (check_entry(c, ret, path, type) < 0)
		return -EINVAL;
	if (size > INT64_MAX - ret->bytes)
		return bad(c, "sizes out of range");
	if (manifest_add(ret, type, path, size, type == MANIFEST_DIR ? NULL : sum) < 0)
		return err_nomem(c->e);
	return 0;
}

static int read_entries(struct cursor *c, struct manifest *ret, uint64_t max)
{
	if (expect(c, "\"entries\":[") < 0)
		return -EINVAL;
	while (!at(c, "]")) {
		int r;

		if (ret->n_entries == max)
			return err_set(c->e, E2BIG, ERR_INPUT,
				       "the manifest has more than %" PRIu64 " entries", max);
		r = expect(c, line_start(ret->n_entries));
		r = r < 0 ? r : read_entry(c, ret);
		if (r < 0)
			return r;
	}
	return expect(c, "],\n");
}

static int read_refused(struct cursor *c, struct manifest *ret)
{
	char path[PATH_BYTES_MAX + 64], type[16], reason[320];

	if (expect(c, line_start(ret->n_refused)) < 0 || expect(c, "{\"path\":") < 0 ||
	    get_string(c, path, sizeof(path), false) < 0 || expect(c, ",\"type\":") < 0 ||
	    get_string(c, type, sizeof(type), false) < 0 || expect(c, ",\"reason\":") < 0 ||
	    get_string(c, reason, sizeof(reason), false) < 0 || expect(c, "}") < 0)
		return -EINVAL;
	if (!known_word(type_words, ARRAY_LEN(type_words), type))
		return bad(c, "an unknown type");
	return list_refused(ret, type, path, reason) < 0 ? err_nomem(c->e) : 0;
}

static int read_refusals(struct cursor *c, struct manifest *ret)
{
	uint64_t total;

	if (expect(c, "\"refused_total\":") < 0 || get_u64(c, &total) < 0 ||
	    expect(c, ",\"refused\":[") < 0)
		return -EINVAL;
	while (!at(c, "]")) {
		int r;

		if (ret->n_refused == MANIFEST_REFUSED_MAX)
			return bad(c, "more refused entries than a manifest lists");
		r = read_refused(c, ret);
		if (r < 0)
			return r;
	}
	if (total < ret->n_refused ||
	    (total > ret->n_refused && ret->n_refused < MANIFEST_REFUSED_MAX))
		return bad(c, "a wrong count of refused entries");
	ret->refused_total = total;
	return expect(c, "]}\n");
}

/* --- what must hold between entries --------------------------------------------------------- */

static int check_parents(const struct manifest *m, struct err *e)
{
	char parent[PATH_BYTES_MAX + 1];

	for (size_t i = 0; i < m->n_entries; i++) {
		const char *path = m->entries[i].path, *slash = strrchr(path, '/');
		const struct manifest_entry *up;

		if (!slash)
			continue;
		memcpy(parent, path, (size_t)(slash - path));
		parent[slash - path] = '\0';
		up = manifest_find(m, parent);
		if (!up || up->type != MANIFEST_DIR)
			return err_input(e, "manifest: the folder of '%s' is not an entry",
					 STR_ESC(path));
	}
	return 0;
}

static int cmp_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static int check_twins(const struct manifest *m, struct err *e)
{
	auto_free const char **text = calloc(m->n_entries + 1, sizeof(*text));
	auto_free size_t *where = calloc(m->n_entries + 1, sizeof(*where));
	auto_buf struct buf all = { 0 };

	if (!text || !where)
		return err_nomem(e);
	for (size_t i = 0; i < m->n_entries; i++) {
		where[i] = all.len;
		if (path_fold(&all, m->entries[i].path, strlen(m->entries[i].path)) < 0 ||
		    buf_add(&all, "", 1) < 0)
			return err_nomem(e);
	}
	for (size_t i = 0; i < m->n_entries; i++)
		text[i] = all.data + where[i];
	qsort(text, m->n_entries, sizeof(*text), cmp_text);
	for (size_t i = 1; i < m->n_entries; i++)
		if (str_eq(text[i - 1], text[i]))
			return err_input(e,
					 "manifest: two paths differ only by case or Unicode form: "
					 "'%s'",
					 STR_ESC(text[i]));
	return 0;
}

static int check_totals(const struct manifest *m, const struct manifest *want, struct err *e)
{
	if (m->files != want->files || m->dirs != want->dirs || m->bytes != want->bytes)
		return err_input(e, "manifest: the totals are not the sum of the entries");
	return 0;
}

int manifest_parse(const void *data, size_t n, uint64_t entries_max, struct manifest *ret,
		   struct err *e)
{
	auto_done(manifest) m = { 0 };
	struct manifest want = { 0 };
	const char *s = data;
	struct cursor c = { .start = s, .p = s, .end = s + n, .e = e };
	uint64_t max = entries_max ? entries_max : MANIFEST_ENTRIES;
	int r = read_head(&c, &m, &want);

	r = r < 0 ? r : read_pack(&c, &m);
	r = r < 0 ? r
		  : read_entries(&c, &m, max < MANIFEST_ENTRIES_MAX ? max : MANIFEST_ENTRIES_MAX);
	r = r < 0 ? r : read_refusals(&c, &m);
	if (r == 0 && c.p != c.end)
		r = bad(&c, "bytes after the end");
	r = r < 0 ? r : check_totals(&m, &want, e);
	r = r < 0 ? r : check_parents(&m, e);
	r = r < 0 ? r : check_twins(&m, e);
	if (r < 0)
		return r;
	*ret = m;
	m = (struct manifest){ 0 };
	return 0;
}

const struct manifest_entry *manifest_find(const struct manifest *m, const char *path)
{
	size_t lo = 0, hi = m->n_entries;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int d = strcmp(m->entries[mid].path, path);

		if (d == 0)
			return &m->entries[mid];
		if (d < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}
