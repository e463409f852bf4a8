/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to the server: sent at once where there is room, else kept in their order. */
#ifndef SANDGATE_OUTBOX_H
#define SANDGATE_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>

struct outbox;

struct outbox *make_outbox(int socket_fd);

/* Sends or keeps one message. The descriptors are taken, also on failure: 0, -ENOMEM, or the socket's error. */
int post(struct outbox *outbox, const void *bytes, size_t size, const int *fds, unsigned int fd_count);

/* Sends what was kept, as far as there is room. */
int flush_outbox(struct outbox *outbox);

bool outbox_empty(const struct outbox *outbox);

/* Calls `visit` for every descriptor that is kept. */
void each_kept_fd(const struct outbox *outbox, void (*visit)(int fd, void *context), void *context);

/* The kernel refused for another reason than room (descriptors in flight): try again after a moment. */
bool outbox_stalled(const struct outbox *outbox);

#endif
