/* SPDX-License-Identifier: MIT */
#include "store/schema.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* store-migrations.inc names every file of lib/store/migrations/ in order: MIGRATION(0101_tables). */
#define MIGRATION(name)                                                                            \
	__asm__(".section .rodata.migration_" #name ",\"a\"\n"                                     \
		"migration_" #name ":\n"                                                           \
		".incbin \"lib/store/migrations/" #name ".sql\"\n"                                 \
		"migration_" #name "_end:\n"                                                       \
		".byte 0\n"                                                                        \
		".previous\n");                                                                    \
	extern const char migration_##name[], migration_##name##_end[];
#include "store-migrations.inc"
#undef MIGRATION

static const struct {
	const char *file, *sql, *end;
} files[] = {
#define MIGRATION(name) { #name, migration_##name, migration_##name##_end },
#include "store-migrations.inc"
#undef MIGRATION
};

const struct schema_step *schema_steps(void)
{
	static struct schema_step steps[ARRAY_LEN(files) + 1];

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		steps[i] = (struct schema_step){ (int)strtol(files[i].file, NULL, 10),
						 files[i].file + 5, files[i].sql,
						 (size_t)(files[i].end - files[i].sql) };
	return steps;
}

int schema_newest(void)
{
	return schema_steps()[ARRAY_LEN(files) - 1].version;
}

int schema_version(struct db *d, int *ret, struct err *e)
{
	auto_obj(db_rows) rows = NULL;
	int r = db_query(d, "select to_regclass('schema_version') is not null", NULL, &rows, e);

	if (r < 0)
		return r;
	if (!db_bool(rows, 0, 0)) {
		*ret = 0;
		return 0;
	}
	db_rows_free(take_ptr(rows));
	r = db_query(d, schema_version_stmt.sql, NULL, &rows, e);
	if (r == 0)
		*ret = (int)db_int(rows, 0, 0);
	return r;
}

const struct db_stmt schema_version_stmt = {
	"schema_version",
	"select coalesce(max(version), 0) from schema_version",
};

int schema_judge(int version, struct err *e)
{
	int ours = schema_newest();

	if (version == 0)
		return err_set(e, EPROTO, ERR_HOST,
			       "the database has no schema of zr yet: run 'zr db:migrate'");
	if (version / 100 > ours / 100)
		return err_set(
			e, EPROTO, ERR_HOST,
			"the database's schema is version %d.%02d, and this program (%s) knows only"
			" major version %d: install a newer zr",
			version / 100, version % 100, ZR_VERSION, ours / 100);
	if (version < ours)
		return err_set(
			e, EPROTO, ERR_HOST,
			"the database's schema is version %d.%02d, this program needs %d.%02d:"
			" run 'zr db:migrate'",
			version / 100, version % 100, ours / 100, ours % 100);
	return 0;
}

int schema_check(struct db *d, struct err *e)
{
	int version = 0, r = schema_version(d, &version, e);

	return r < 0 ? r : schema_judge(version, e);
}

static int record(struct db *d, const struct schema_step *s, struct err *e)
{
	struct db_args a = { 0 };

	db_arg_int(&a, s->version);
	db_arg_text(&a, s->name);
	db_arg_text(&a, ZR_VERSION);
	return db_query(d,
			"insert into schema_version (version, name, program) values ($1, $2, $3)",
			&a, NULL, e);
}

static int apply(struct db *d, const struct schema_step *s, struct err *e)
{
	int r = db_begin(d, e);

	if (r == 0)
		r = db_script(d, s->sql, e);
	if (r == 0)
		r = record(d, s, e);
	if (r == 0)
		r = db_commit(d, e);
	if (r < 0) {
		db_rollback(d);
		return err_wrap(e, "migration %04d_%s", s->version, s->name);
	}
	return 0;
}

static int apply_all(struct db *d, schema_step_fn fn, void *user, struct err *e)
{
	int done = 0, version = 0, r = schema_version(d, &version, e);

	if (r < 0)
		return r;
	if (version / 100 > schema_newest() / 100)
		return schema_judge(version, e);
	for (const struct schema_step *s = schema_steps(); s->version; s++) {
		if (s->version <= version)
			continue;
		r = apply(d, s, e);
		if (r < 0)
			return r;
		if (fn)
			fn(user, s);
		done++;
	}
	return done;
}

/* Another migration may take long; a step that waits behind somebody's transaction, while everybody
 * else waits behind it, may not. */
static const char sql_patience[] = "select set_config('statement_timeout', '3600000', false),"
				   " set_config('lock_timeout', '600000', false)";
static const char sql_haste[] = "select set_config('lock_timeout', '5000', false)";
static const char sql_lock[] = "select pg_advisory_lock(hashtext('zr.migrate'))";
static const char sql_unlock[] = "select pg_advisory_unlock(hashtext('zr.migrate'))";
static const char sql_table[] =
	"create table if not exists schema_version (version int primary key, name text not null,"
	" program text not null, applied_at timestamptz not null default now())";

static int lock(struct db *d, struct err *e)
{
	int r;

	db_set_timeout(d, 3600 * USEC_PER_SEC);
	r = db_query(d, sql_patience, NULL, NULL, e);
	if (r == 0)
		r = db_query(d, sql_lock, NULL, NULL, e);
	if (r < 0)
		return err_wrap(e, "wait for another migration");
	return db_query(d, sql_haste, NULL, NULL, e);
}

int schema_migrate(struct db *d, schema_step_fn fn, void *user, struct err *e)
{
	int r = lock(d, e), u;

	if (r == 0)
		r = db_query(d, sql_table, NULL, NULL, e);
	if (r == 0)
		r = apply_all(d, fn, user, e);
	/* The lock also ends with the connection. */
	u = db_query(d, sql_unlock, NULL, NULL, NULL);
	if (r < 0 || u == 0)
		return r;
	return err_set(e, ECONNRESET, ERR_TRANSIENT, "the connection was lost");
}
