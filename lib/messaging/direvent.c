/* SPDX-License-Identifier: MIT */
#include "messaging/direvent.h"

#include <errno.h>
#include <string.h>

#include "base/id.h"
#include "base/json.h"
#include "base/str.h"
#include "messaging/dirfile.h"
#include "messaging/message.h"

int direvent_add_results(const char *state_dir, const void *body, size_t n, char **ret,
			 size_t *ret_n)
{
	json_auto_t *o = NULL;
	auto_free char *path = NULL;
	const char *attempt;

	if (js_parse(body, n, MESSAGE_DEPTH, &o, NULL) < 0)
		return -EINVAL;
	attempt = json_string_value(json_object_get(o, "attempt_id"));
	if (!attempt || !json_object_get(json_object_get(o, "body"), "root_hash") ||
	    str_fmt(&path, "%s/sealed/%s", state_dir, attempt) < 0 ||
	    json_object_set_new(o, "results", json_string(path)) < 0)
		return -ENOENT;
	*ret = js_text(o);
	*ret_n = *ret ? strlen(*ret) : 0;
	return *ret ? 0 : -ENOMEM;
}

static bool is_terminal(const char *key)
{
	return str_starts(key, "event.completed.") || str_starts(key, "event.failed.") ||
	       str_starts(key, "event.canceled.");
}

void direvent_tell_end(const struct dirtree *t, const struct stash_record *rec)
{
	json_auto_t *o = NULL;
	const char *evaluation;

	if (!is_terminal(rec->key) || js_parse(rec->body, rec->n, MESSAGE_DEPTH, &o, NULL) < 0)
		return;
	evaluation = json_string_value(json_object_get(o, "evaluation"));
	if (evaluation)
		dirtree_ended(t, evaluation,
			      (int)json_integer_value(json_object_get(o, "attempt")));
}

static int event_name(const json_t *event, char **ret, struct err *e)
{
	const char *attempt = json_string_value(json_object_get(event, "attempt_id"));
	const json_t *seq = json_object_get(event, "seq");

	if (!attempt || !id_is_uuid(attempt) || !json_is_integer(seq))
		return err_input(e, "an event in the stash is not of this program");
	return str_fmt(ret, "%s.%013lld.json", attempt, (long long)json_integer_value(seq)) < 0
		       ? err_nomem(e)
		       : 0;
}

int direvent_write(int dirfd, const struct stash_record *rec, struct err *e)
{
	json_auto_t *event = NULL;
	auto_free char *name = NULL;
	int r = rec->key ? js_parse(rec->body, rec->n, MESSAGE_DEPTH, &event, e)
			 : err_input(e, "a record in the stash is not of this program");

	if (r == 0)
		r = event_name(event, &name, e);
	return r < 0 ? r : dirfile_write(dirfd, name, rec->body, rec->n, e);
}
