// SPDX-License-Identifier: Apache-2.0
/* The keeper's operations on sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "keeper.h"

#define CONNECT_WATCH_US 50000

/* A connect that cannot wait, unless the caller makes the socket blocking meanwhile: then a timer ends it. */
static int connect_at_once(int socket_fd, const struct sockaddr *address, socklen_t length)
{
	const struct itimerval watch = {.it_interval = {.tv_usec = CONNECT_WATCH_US},
					.it_value = {.tv_usec = CONNECT_WATCH_US}};
	const struct itimerval none = {0};
	int r;

	setitimer(ITIMER_REAL, &watch, NULL);
	r = connect(socket_fd, address, length) < 0 ? -errno : 0;
	setitimer(ITIMER_REAL, &none, NULL);
	return r;
}

/* Returns a result for the caller, or -EINPROGRESS with *ret_deferred set when the reply comes later. */
static int start_connect(struct keeper *keeper, const struct request *request, int *socket_fd, bool *ret_deferred)
{
	const uint32_t length = request->head->length;
	struct job job = {.kind = JOB_CONNECT, .op_id = request->head->op_id, .fd = *socket_fd};
	socklen_t size = sizeof(int);
	int type, flags, r;

	if (length > sizeof(job.address))
		return -EINVAL;
	if (getsockopt(*socket_fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return -errno;
	flags = fcntl(*socket_fd, F_GETFL);
	if (flags < 0)
		return -errno;
	memcpy(&job.address, request->bytes, length);
	job.address_length = length;
	if ((flags & O_NONBLOCK) || type == SOCK_DGRAM || type == SOCK_RAW)
		return connect_at_once(*socket_fd, (const struct sockaddr *)&job.address, job.address_length);
	r = submit_job(keeper, &job);
	if (r < 0)
		return r;
	*socket_fd = -1;
	*ret_deferred = true;
	return 0;
}

void handle_connect(struct keeper *keeper, struct request *request)
{
	cleanup_close int socket_fd = take_fd(request->packet, 0);
	bool deferred = false;
	int r = socket_fd < 0 ? -EBADF : start_connect(keeper, request, &socket_fd, &deferred);

	if (!deferred)
		reply_result(keeper, request->head->op, request->head->op_id, r, -1);
}

void handle_cancel(struct keeper *keeper, struct request *request)
{
	if (keeper->jobs != NULL)
		cancel_job(keeper->jobs, request->head->op_id);
}
