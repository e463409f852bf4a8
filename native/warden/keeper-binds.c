// SPDX-License-Identifier: Apache-2.0
/* The keeper's bind. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "keeper.h"

void handle_bind(struct keeper *keeper, struct request *request)
{
	const struct sg_keeper_request *head = request->head;
	cleanup_close int socket_fd = take_fd(request->packet, 0);
	struct sockaddr_storage address;
	int r;

	if (socket_fd < 0) {
		r = -EBADF;
	} else if (head->length > sizeof(address)) {
		r = -EINVAL;
	} else {
		memcpy(&address, request->bytes, head->length);
		umask(head->umask & 0777);
		r = bind(socket_fd, (const struct sockaddr *)&address, head->length) < 0 ? -errno : 0;
	}
	reply_result(keeper, head->op, head->op_id, r, -1);
}
