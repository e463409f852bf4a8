// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "outbox.h"
#include "wire.h"

struct letter {
	struct letter *next;
	int fds[SG_MAX_FDS];
	unsigned int fd_count;
	size_t size;
	char bytes[];
};

struct outbox {
	int socket_fd;
	bool stalled;
	struct letter *first;
	struct letter *last;
};

struct outbox *make_outbox(int socket_fd)
{
	struct outbox *outbox = calloc(1, sizeof(*outbox));

	if (outbox != NULL)
		outbox->socket_fd = socket_fd;
	return outbox;
}

bool outbox_empty(const struct outbox *outbox)
{
	return outbox->first == NULL;
}

bool outbox_stalled(const struct outbox *outbox)
{
	return outbox->stalled;
}

static bool is_lack_of_room(int error)
{
	return error == -EAGAIN || error == -ENOBUFS || error == -ENOMEM || error == -ETOOMANYREFS;
}

static void close_all(const int *fds, unsigned int fd_count)
{
	for (unsigned int i = 0; i < fd_count; i++) {
		int fd = fds[i];

		close_fd(&fd);
	}
}

static int try_send(struct outbox *outbox, const void *bytes, size_t size, const int *fds,
		    unsigned int fd_count)
{
	int r = send_packet(outbox->socket_fd, bytes, size, fds, fd_count, MSG_DONTWAIT);

	outbox->stalled = is_lack_of_room(r) && r != -EAGAIN;
	return r;
}

int post(struct outbox *outbox, const void *bytes, size_t size, const int *fds, unsigned int fd_count)
{
	struct letter *letter;
	int r = -EAGAIN;

	if (outbox->first == NULL)
		r = try_send(outbox, bytes, size, fds, fd_count);
	if (!is_lack_of_room(r)) {
		close_all(fds, fd_count);
		return r;
	}
	letter = malloc(sizeof(*letter) + size);
	if (letter == NULL) {
		close_all(fds, fd_count);
		return -ENOMEM;
	}
	letter->next = NULL;
	letter->fd_count = fd_count;
	letter->size = size;
	if (fd_count > 0)
		memcpy(letter->fds, fds, fd_count * sizeof(*fds));
	memcpy(letter->bytes, bytes, size);
	if (outbox->first == NULL)
		outbox->first = letter;
	else
		outbox->last->next = letter;
	outbox->last = letter;
	return 0;
}

int flush_outbox(struct outbox *outbox)
{
	while (outbox->first != NULL) {
		struct letter *letter = outbox->first;
		int r = try_send(outbox, letter->bytes, letter->size, letter->fds, letter->fd_count);

		if (is_lack_of_room(r))
			return 0;
		if (r < 0)
			return r;
		outbox->first = letter->next;
		close_all(letter->fds, letter->fd_count);
		free(letter);
	}
	return 0;
}

void each_kept_fd(const struct outbox *outbox, void (*visit)(int fd, void *context), void *context)
{
	for (const struct letter *letter = outbox->first; letter != NULL; letter = letter->next)
		for (unsigned int i = 0; i < letter->fd_count; i++)
			visit(letter->fds[i], context);
}
