/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that may block, each in a small thread, so that the keeper itself never waits. */
#ifndef SANDGATE_JOBS_H
#define SANDGATE_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define JOB_LIMIT 1024

enum job_kind {
	JOB_OPEN,
	JOB_CONNECT,
	JOB_SEND,
};

struct outgoing;

/* A call and, when it is done, what it gave. */
struct job {
	enum job_kind kind;
	uint64_t op_id;
	int fd;	    /* OPEN: what is opened again; CONNECT, SEND: the socket. Owned. */
	int pin_fd; /* CONNECT: the socket file that the address leads to. Owned; -1 for none. */
	int flags;  /* OPEN */
	struct outgoing *message; /* SEND; freed by who takes the finished job */
	struct sockaddr_storage address;
	socklen_t address_length;
	int result; /* a descriptor, a count of bytes or 0; or a negative errno */
};

struct job_pool;

/* Takes `done_fd`, an eventfd that is written when a job is finished. */
struct job_pool *make_job_pool(int done_fd);

/* Starts a job; its descriptor changes hands on success only. -EAGAIN when JOB_LIMIT jobs run. */
int start_job(struct job_pool *pool, const struct job *job);

/* Asks a job to stop, which then ends with -EINTR. Ignored when it is not running. */
void cancel_job(struct job_pool *pool, uint64_t op_id);

/* Repeats what cancel_job began. Returns whether it must be called again after a moment. */
bool press_cancelled(struct job_pool *pool);

/* Takes a finished job; its descriptor was closed. Returns false when there is none. */
bool take_finished(struct job_pool *pool, struct job *ret_job);

/* The call that reopens a pinned file, by its descriptor. */
int reopen(int pinned_fd, int flags);

#endif
