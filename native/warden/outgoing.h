/* SPDX-License-Identifier: Apache-2.0 */
/* A message that waits for room on its way out, with a copy of all that it needs. */
#ifndef SANDGATE_OUTGOING_H
#define SANDGATE_OUTGOING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct outgoing;

/*
 * Copies a message, whose parts may lie anywhere; `pin_fd`, the socket file that its name leads to, and the `fd_count`
 * descriptors in its control messages are duplicated. `restarts` says how an interruption ends it. NULL without memory
 * or descriptors.
 */
struct outgoing *copy_outgoing(const struct msghdr *message, int flags, int pin_fd, const int *fds,
			       unsigned int fd_count, bool restarts);

/* Sends it, waiting unless `flags` say otherwise. Returns the bytes sent or a negative errno. */
int send_outgoing(struct outgoing *outgoing, int socket_fd, int flags);

/* What the caller is told of a send that ended with `result`. */
int outgoing_result(const struct outgoing *outgoing, int result);

void free_outgoing(struct outgoing *outgoing);

/* One SCM_RIGHTS message with these descriptors, at most SG_MAX_SENT_FDS. Returns its size. */
size_t put_rights(void *control, const int *fds, unsigned int fd_count);

/* The name by which a pinned socket file is connected to. */
socklen_t name_pin(int pin_fd, struct sockaddr_storage *ret_name);

#endif
