/* SPDX-License-Identifier: MIT */
/*
 * A channel brings requests and control messages to a worker and takes its events away. The worker
 * does not know what is behind it: channel_amqp_new() is RabbitMQ, channel_dir_new() a folder,
 * channel_pike_new() pairs of folders.
 */
#ifndef ZR_MESSAGING_CHANNEL_H
#define ZR_MESSAGING_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/settings.h"
#include "messaging/message.h"

struct channel;
struct stash;
struct channel_request; /* a request that is not settled */

struct channel_ops {
	/*
	 * A well-formed request. The worker settles `t` exactly once, now or later, with
	 * channel_ack(), channel_dead() or channel_return(); `m` is valid during the call only.
	 * `redelivered`: it was handed out before, so a claim of ours may exist.
	 */
	void (*on_request)(void *user, struct channel_request *t, const struct message *m,
			   bool redelivered);
	/* A cancel or release. After each start those of the retention come again. */
	void (*on_control)(void *user, const struct message *m);
	/* Durable events up to `id` are on disk / event `id` has arrived. */
	void (*on_durable)(void *user, uint64_t id);
	void (*on_confirmed)(void *user, uint64_t id);
	/* Intake and events work (up, `why` NULL), or not and why: kind INPUT and HOST ask for a
	 * person. Called on changes, and again for each failed attempt to come up. */
	void (*on_state)(void *user, bool up, const struct err *why);
	/* After channel_want(c, 0): channel_is_idle() has become true by itself. */
	void (*on_idle)(void *user);
	/* The other side wants no more, and has all its answers: leave. Only if the channel says so. */
	void (*on_close)(void *user);
	/* What it kept on disk has gone; those who could be told were. The worker has to begin anew.
	 * Only if the channel says so. */
	void (*on_lost)(void *user, const char *why);
	/* For the log; level is syslog's. */
	void (*on_report)(void *user, int level, const char *text);
	/* A line for whoever operates this worker, for standard output; NULL: nobody reads. */
	void (*on_line)(void *user, const char *text);
	/* What a former worker kept with channel_keep(); only while the channel is made. False: it may
	 * be forgotten. */
	bool (*on_kept)(void *user, uint64_t id, const char *name, const void *data, size_t n);
};

/* See channel_worker(). */
typedef void (*channel_told_fn)(void *user, bool arrived);

/* What an implementation provides; programs use the functions below. */
struct channel_type {
	const char *name;
	void (*free)(struct channel *c);
	void (*close)(struct channel *c, void (*done)(void *user), void *user);
	void (*want)(struct channel *c, unsigned n);
	bool (*holds)(const struct channel *c, const struct channel_request *t);
	int (*ack)(struct channel *c, struct channel_request *t);
	int (*dead)(struct channel *c, struct channel_request *t, const char *reason,
		    const char *detail);
	int (*give_back)(struct channel *c, struct channel_request *t);
	int (*event)(struct channel *c, const char *key, const char *id, const void *body, size_t n,
		     bool durable, uint64_t *ret_id, struct err *e);
	int (*tell)(struct channel *c, const char *key, const char *id, const void *body, size_t n,
		    channel_told_fn told, void *user, struct err *e);
	bool (*is_idle)(const struct channel *c);
	bool (*brings_more)(const struct channel *c); /* NULL: never */
};

struct channel {
	const struct channel_type *type;
	struct stash *stash; /* where its events wait; the implementation's */
};

/* The dialect pike: pairs of folders, one for each driver. Texts are only pointed to. */
struct pike_conf {
	const struct pike_folders {
		char *input, *output;
	} * folders;
	size_t n_folders;
	const char *scratch;
	uint64_t grace_usec; /* for the text of a message that is announced and not whole */
	uint64_t drain_usec; /* from the word to close to the last answer */
	bool own_locks;      /* each task's temporary folder has one for locks: PIKE_OWN_LOCKS */
	bool keep_files;     /* code, output and temporary folder of a task stay after its answer */
	uint64_t age_max_usec; /* what has waited longer is not run; 0: everything is */
};
/* The evaluator of its requests, whose arguments are level, task, number and mode. It has no
 * submission: what stands for it is nothing. */
#define PIKE_EVALUATOR "pike"
#define PIKE_DIGEST    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
/* In a task's temporary folder, see own_locks. */
#define PIKE_OWN_LOCKS "gpu_locks"
/* Of the worker that the dialect stands for. */
#define PIKE_ORIGINAL_OPTIONS "input-dir", "output-dir", "scratch-dir", "arch", "max-active-tasks"

struct channel_conf {
	const struct settings *settings;
	unsigned worker;    /* index from 1: names the connections and the spool's folder */
	uint64_t spool_max; /* bytes of events that may wait */
	const char *folder; /* channel_dir_new(): the channel's */
	const struct pike_conf *pike; /* channel_pike_new() */
};

int channel_amqp_new(struct loop *l, const struct channel_conf *conf, const struct channel_ops *ops,
		     void *user, struct channel **ret, struct err *e) must_check;
/* A folder, as zr-channel(7) describes it. Events that are not durable go nowhere. */
int channel_dir_new(struct loop *l, const struct channel_conf *conf, const struct channel_ops *ops,
		    void *user, struct channel **ret, struct err *e) must_check;
/* The same for the dialect pike, for one worker alone. */
int channel_pike_new(struct loop *l, const struct channel_conf *conf, const struct channel_ops *ops,
		     void *user, struct channel **ret, struct err *e) must_check;

/* Takes leave: `done` is called when everything settled so far has reached the other side. */
void channel_close(struct channel *c, void (*done)(void *user), void *user);
/* At once. Unsettled requests go back. Events stay in their spool for the next start. */
void channel_free(struct channel *c);
DEFINE_AUTO(channel);

/* How many further requests may come: the number of free places now. Each on_request uses one up; set
 * it again whenever a place becomes free. 0 pauses the intake: no request comes afterwards, except
 * that the ones on their way are given back by the channel itself. Starts at 0. */
void channel_want(struct channel *c, unsigned n);
/* After channel_want(c, 0): nothing is on its way any more. */
bool channel_is_idle(const struct channel *c);

/* Further requests are on their way at this moment: what is done once for several can wait for them,
 * some milliseconds at most. */
bool channel_brings_more(const struct channel *c);

/* The request is still ours to settle; not after its connection was lost: then it comes again. */
bool channel_holds(const struct channel *c, const struct channel_request *t);
/* Each frees `t`. Done once its effect is durable; -ESTALE: the connection went, the request comes
 * again. */
int channel_ack(struct channel *c, struct channel_request *t);
/* To the dead queue: `reason` is a code of lower-case words, `detail` a sentence. */
int channel_dead(struct channel *c, struct channel_request *t, const char *reason,
		 const char *detail);
/* Back to its queue, for any worker. */
int channel_return(struct channel *c, struct channel_request *t);

/* Durable: survives a crash from on_durable on, and arrives at least once, in order. Others (worker
 * states, progress) are sent now or never. -ENOSPC: the spool is full. */
int channel_event(struct channel *c, const struct message_event *ev, bool durable, uint64_t *ret_id,
		  struct err *e) must_check;
/* A worker's state. `told` (may be NULL: now or never) is called once, from the loop: the other side
 * has it, or it is not known to have it. Not called if this fails, as it does when there is no
 * connection. */
int channel_worker(struct channel *c, const struct message_worker *w, channel_told_fn told,
		   void *user, struct err *e) must_check;
/* Something of the worker's own that must survive a crash: kept where the events wait, and synced
 * together with them, so that it costs no sync of its own. on_durable tells of it as of an event. */
int channel_keep(struct channel *c, const char *name, const void *data, size_t n, uint64_t *ret_id,
		 struct err *e) must_check;
void channel_forget(struct channel *c, uint64_t id);
/* Makes appended events durable now. */
int channel_sync(struct channel *c, struct err *e) must_check;
/* Durable events that have not arrived. */
uint64_t channel_waiting(const struct channel *c);

#endif
