/* SPDX-License-Identifier: Apache-2.0 */
/* What the keeper's operations share; each family of them has a file. */
#ifndef SANDGATE_KEEPER_H
#define SANDGATE_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../abi.h"
#include "connects.h"
#include "grants.h"
#include "jobs.h"
#include "pins.h"
#include "wire.h"

#define ANSWERS_AT_ONCE 32 /* told to the engine in one reply */

struct keeper {
	pid_t warden_pid;
	bool namespaced;       /* kill(-1) is confined by the PID namespace */
	bool confines_signals; /* the outer layer has the scope */
	struct grants *grants; /* the program's own */
	struct pins pins;
	struct job_pool *jobs; /* NULL until the first */
	int done_fd;
	struct connects connects;
	int listener_fd; /* -1 when the engine answers every call itself */
	struct sg_keeper_answers {
		struct sg_keeper_reply head;
		uint64_t op_ids[ANSWERS_AT_ONCE];
	} answers; /* given, and not yet told of: head.length counts */
};

/* A request of the engine, checked: head->length bytes follow it. */
struct request {
	const struct sg_keeper_request *head;
	const char *bytes;
	struct packet *packet; /* its descriptors; what is not taken is closed */
};

/* Sends a reply, waiting for room, but not beyond what ends the keeper. `fd` may be -1, and stays the caller's. */
void reply(struct keeper *keeper, const void *bytes, size_t size, int fd);

/* Replies with 0 or a negative errno. */
void reply_result(struct keeper *keeper, uint32_t op, uint64_t op_id, int error, int fd);

/* Hands a job to a thread; the reply follows when it is done. Its descriptor changes hands on success only. */
int submit_job(struct keeper *keeper, const struct job *job);

/* The request's path as a string. Returns 0, -ENAMETOOLONG, or -EINVAL when it has a NUL. */
int copy_path_bytes(const struct request *request, char ret_path[PATH_MAX]);

/* Replies to the connects that have their result. */
void reply_connected(struct keeper *keeper);

/* Tells the engine of the calls that were answered here. */
void tell_answers(struct keeper *keeper);

/* Replies to a send that was done in a thread, and frees its message. */
void reply_sent(struct keeper *keeper, struct job *job);

/*
 * Opens what is pinned, as open(2) would: a file, or with a name what is or comes to be in the directory. What is
 * denied is refused. *fd is taken where a thread goes on with it.
 * Returns a descriptor, -EINPROGRESS when the thread replies, or another negative errno.
 */
int open_pinned(struct keeper *keeper, uint64_t op_id, int *fd, const char *name, int flags, mode_t mode);

/* Whether a file, or `name` in a directory, is denied whoever asks: -EACCES then, else 0. `name` may be NULL. */
int check_denied(struct keeper *keeper, int fd, const char *name);

/* Operations; each replies when it is done, unless abi.h says that it does not. */
void handle_listen(struct keeper *keeper, struct request *request);
void handle_process(struct keeper *keeper, struct request *request);
void handle_resolve(struct keeper *keeper, struct request *request);
void handle_open(struct keeper *keeper, struct request *request);
void handle_release(struct keeper *keeper, struct request *request);
void handle_connect(struct keeper *keeper, struct request *request);
void handle_program(struct keeper *keeper, struct request *request);
void handle_act(struct keeper *keeper, struct request *request);
void handle_send(struct keeper *keeper, struct request *request);
void handle_cancel(struct keeper *keeper, struct request *request);
void handle_listener(struct keeper *keeper, struct request *request);
void handle_bind(struct keeper *keeper, struct request *request);

#endif
