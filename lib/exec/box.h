/* SPDX-License-Identifier: MIT */
/*
 * The worker's side of a box: claim, start, follow, adopt, release. The keeper (zr-box) outlives
 * its worker; what joins them is the box folder <state_dir>/spool/boxes/<attempt_id>/ and a socket.
 * No process id decides anything: the journal is locked as long as a keeper has the job, spec.json
 * by the worker that reports for the box.
 *
 * The usual way:  box_prepare() [ack the delivery]  box_start()  … on_end()  box_release()
 * After a restart: box_list(), box_open() for each, then box_start() if it is BOX_NEW, else
 * box_attach(). Everything reported before may be reported again to an adopter.
 */
#ifndef ZR_EXEC_BOX_H
#define ZR_EXEC_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/loop.h"
#include "exec/keepers.h"
#include "exec/progress.h"
#include "exec/result.h"
#include "exec/spec.h"

struct box;

enum box_state {
	BOX_NEW,     /* claimed, never started */
	BOX_RUNNING, /* its keeper lives */
	BOX_ENDED,   /* there is a result */
	BOX_DEAD,    /* the keeper was killed before it had a result: on_end() will say `lost` */
};

enum box_stream {
	BOX_OUT,
	BOX_ERR,
	BOX_STREAM_N,
};

/*
 * Called from the loop, never from within box_start() or box_attach(). Any may be NULL. A callback
 * may call anything here, box_release() and box_free() too. Pointers are valid during the call.
 */
struct box_calls {
	/* The first program was executed, at `wall_usec`. */
	void (*on_started)(void *user, struct box *b, uint64_t wall_usec, const json_t *isolation);
	void (*on_phase)(void *user, struct box *b, enum phase phase);
	/* At most four a second, the last one always. */
	void (*on_progress)(void *user, struct box *b, enum phase phase, const struct progress *p);
	/* What there is by now, {"calls", …} as in the result; at most once a second. */
	void (*on_violation)(void *user, struct box *b, enum phase phase, json_t *violations);
	/* The log file has `size` bytes now. It only grows, except that at the end the marker and
	 * the tail of a truncated log are added at once. */
	void (*on_log)(void *user, struct box *b, enum box_stream stream, uint64_t size);
	/* Once, last. Nothing of the job is alive any more; the result is sealed and durable. */
	void (*on_end)(void *user, struct box *b, const struct box_result *r);
};

/*
 * The claim: makes the box folder with a locked spec.json in it. -EEXIST: there is such a box.
 * Nothing is synced: the folder outlives every crash but the host's own. Whoever must not lose it
 * then keeps box_claim_text() in a safe place and gives it to box_restore() afterwards.
 */
int box_prepare(const char *state_dir, const struct box_spec *spec, struct box **ret,
		struct err *e) must_check;

/* What spec.json says; stays the box's. */
const char *box_claim_text(const struct box *b);
/* What such a text is worth now. 1: there is a box of it; if the host's crash had taken the folder it
 * was made again, and counts as one whose keeper died: what came of it, nobody knows. 0: the box was
 * released since; a claim of this boot without a folder has no other meaning. */
int box_restore(const char *state_dir, const char *text, size_t n, struct err *e) must_check;

/* The attempt_ids of all boxes, NULL-terminated, sorted. Unfinished claims are removed. */
int box_list(const char *state_dir, char ***ret_ids, struct err *e) must_check;

/* Adoption of one. -EWOULDBLOCK: another worker has it. */
int box_open(const char *state_dir, const char *attempt_id, struct box **ret,
	     struct err *e) must_check;

/* Lets go of the box, which runs on. NULL is fine. */
void box_free(struct box *b);
DEFINE_AUTO(box);

enum box_state box_state(const struct box *b);
/* False: it was made before the host went down. */
bool box_is_of_this_boot(const struct box *b);
const struct box_spec *box_spec(const struct box *b);
/* Once on_end() was called: its keeper has not let go of it, because something of it does not die. */
bool box_is_stuck(const struct box *b);
/* For small files of the worker's own (name them "worker.*"); stays the box's. */
int box_dirfd(const struct box *b);

/* BOX_NEW only: hands the box to a keeper and follows it. After a failure the box is BOX_NEW still
 * and can be concluded. */
int box_start(struct box *b, struct loop *loop, struct keepers *keepers,
	      const struct box_calls *calls, void *user, struct err *e) must_check;
/* Every other state. */
int box_attach(struct box *b, struct loop *loop, const struct box_calls *calls, void *user,
	       struct err *e) must_check;

/* Asks for the end: SIGTERM, grace, SIGKILL, then on_end() with `canceled`. A box that is BOX_NEW
 * gets that result at once; asking again, or after the end, does nothing. */
int box_cancel(struct box *b, struct err *e) must_check;

/* The same without the grace; also hurries an end that box_cancel() has asked for. */
int box_kill(struct box *b, struct err *e) must_check;

/* The box may go on for `usec` from now, at most LEASE_USEC_MAX; its keeper is told, as soon as there
 * is a way to it. Before the start this is kept, after the end it does nothing. What comes when the
 * lease was over already does not help: on_end() will say `lost`. -EINVAL: `usec` is out of range. */
int box_renew(struct box *b, uint64_t usec, struct err *e) must_check;

/* BOX_NEW only: gives the box a result without running it, durable like any other. */
int box_conclude(struct box *b, enum box_reason reason, const char *detail,
		 struct err *e) must_check;

/* The result of an ended box; ERR_HOST if it has none. *ret is for box_result_done(). */
int box_result(const struct box *b, struct box_result *ret, struct err *e) must_check;

/* For reading. -ENOENT: nothing was written. */
int box_open_log(const struct box *b, enum box_stream stream, int *ret_fd,
		 struct err *e) must_check;

/* Removes the box folder, and with `sealed` the sealed result too, then frees the box. -EBUSY: the
 * keeper has not quite gone (it may hold a process that will not die); try again later. */
int box_release(struct box *b, bool sealed, struct err *e) must_check;
/* The sealed result of an attempt whose box has gone already. Missing is success. */
int box_release_sealed(const char *state_dir, const char *attempt_id, struct err *e) must_check;

#endif
