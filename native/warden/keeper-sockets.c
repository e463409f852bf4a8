// SPDX-License-Identifier: Apache-2.0
/* The keeper's operations on sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "keeper.h"

/*
 * A Unix socket waits for room in a queue, which nothing tells of: that is done in a thread. Returns a result for the
 * caller, or any with *ret_waits set when the reply comes later.
 */
static int connect_local(struct keeper *keeper, const struct request *request, int *socket_fd, bool *ret_waits)
{
	struct job job = {.kind = JOB_CONNECT, .op_id = request->head->op_id, .fd = *socket_fd};
	int flags = fcntl(*socket_fd, F_GETFL);
	int r;

	if (flags < 0)
		return -errno;
	memcpy(&job.address, request->bytes, request->head->length);
	job.address_length = request->head->length;
	if (flags & O_NONBLOCK)
		return connect(*socket_fd, (const struct sockaddr *)&job.address, job.address_length) < 0 ? -errno : 0;
	r = submit_job(keeper, &job);
	if (r < 0)
		return r;
	*socket_fd = -1;
	*ret_waits = true;
	return 0;
}

/* Likewise, for any socket. */
static int connect_socket(struct keeper *keeper, const struct request *request, int *socket_fd, bool *ret_waits)
{
	const uint32_t length = request->head->length;
	struct sockaddr_storage address;
	socklen_t size = sizeof(int);
	int domain;

	if (length > sizeof(address))
		return -EINVAL;
	if (getsockopt(*socket_fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
		return -errno;
	if (domain == AF_UNIX)
		return connect_local(keeper, request, socket_fd, ret_waits);
	memcpy(&address, request->bytes, length);
	return start_connect(&keeper->connects, request->head->op_id, socket_fd, (const struct sockaddr *)&address,
			     length, ret_waits);
}

void handle_connect(struct keeper *keeper, struct request *request)
{
	cleanup_close int socket_fd = take_fd(request->packet, 0);
	bool waits = false;
	int r = socket_fd < 0 ? -EBADF : connect_socket(keeper, request, &socket_fd, &waits);

	if (!waits)
		reply_result(keeper, request->head->op, request->head->op_id, r, -1);
}

void reply_connected(struct keeper *keeper)
{
	uint64_t op_id;
	int r;

	while (take_connect(&keeper->connects, &op_id, &r))
		reply_result(keeper, SG_KEEPER_CONNECT, op_id, r, -1);
}

void handle_cancel(struct keeper *keeper, struct request *request)
{
	const uint64_t op_id = request->head->op_id;
	int r = interrupt_connect(&keeper->connects, op_id);

	if (r < 0)
		reply_result(keeper, SG_KEEPER_CONNECT, op_id, r, -1);
	else if (keeper->jobs != NULL)
		cancel_job(keeper->jobs, op_id);
}
