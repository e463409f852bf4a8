/* SPDX-License-Identifier: Apache-2.0 */
/* Connects of a sandbox's internet sockets, done by its keeper without ever waiting for one. */
#ifndef SANDGATE_CONNECTS_H
#define SANDGATE_CONNECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Those that wait for their peer. All zero but for the descriptor, which is -1, when there are none. */
struct connects {
	int poll_fd; /* readable when take_connect has something; -1 before the first waits */
	struct waiting_connect *waiting;
	size_t count, room;
};

#define NO_CONNECTS ((struct connects){.poll_fd = -1})

/*
 * Connects as connect(2) of the caller would: at once where it can be, also on a socket that may block. Returns its
 * result, or -EINPROGRESS with *ret_waits set when the peer has to be waited for: then *fd is taken and the result
 * comes from take_connect. The timer of ITIMER_REAL and SIGALRM, which must have a handler, are used.
 */
int start_connect(struct connects *connects, uint64_t op_id, int *fd, const struct sockaddr *address, socklen_t length,
		  bool *ret_waits);

/* Takes one that has its result. Returns false when there is none. */
bool take_connect(struct connects *connects, uint64_t *ret_op_id, int *ret_result);

/*
 * Forgets one that waits, as a signal to its caller does: the attempt itself goes on. Returns what the call then
 * returns to the kernel, or 0 when there is none of that id. connect(2), signal(7).
 */
int interrupt_connect(struct connects *connects, uint64_t op_id);

/* Milliseconds until the next one has waited as long as its socket says (SO_SNDTIMEO), or -1. */
int next_connect_ms(const struct connects *connects);

#endif
