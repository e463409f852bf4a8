// SPDX-License-Identifier: Apache-2.0
/* The keeper's operations on sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "keeper.h"
#include "outgoing.h"

/* The address in a request, or of the socket file that it names by a pin: then job->pin_fd is that, and the job's. */
static int read_address(struct keeper *keeper, const struct request *request, const char *bytes, uint32_t length,
			struct job *job)
{
	struct pin *pin;
	uint64_t pin_id;

	if (!(request->head->flags & SG_KEEPER_PINNED)) {
		memcpy(&job->address, bytes, length);
		job->address_length = length;
		return 0;
	}
	if (length != sizeof(pin_id))
		return -EINVAL;
	memcpy(&pin_id, bytes, sizeof(pin_id));
	pin = find_pin(&keeper->pins, pin_id);
	if (pin == NULL || !pin->exists)
		return -EBADF;
	job->pin_fd = pin->fd;
	pin->fd = -1;
	release_pin(pin);
	job->address_length = name_pin(job->pin_fd, &job->address);
	return 0;
}

/*
 * A Unix socket waits for room in a queue, which nothing tells of: that is done in a thread. Returns a result for the
 * caller, or any with *ret_waits set when the reply comes later.
 */
static int connect_local(struct keeper *keeper, const struct request *request, const char *bytes, uint32_t length,
			 int *socket_fd, bool *ret_waits)
{
	struct job job = {.kind = JOB_CONNECT, .op_id = request->head->op_id, .fd = *socket_fd, .pin_fd = -1};
	int flags = fcntl(*socket_fd, F_GETFL);
	int r;

	if (flags < 0)
		return -errno;
	r = read_address(keeper, request, bytes, length, &job);
	if (r < 0)
		return r;
	if (flags & O_NONBLOCK) {
		r = connect(*socket_fd, (const struct sockaddr *)&job.address, job.address_length) < 0 ? -errno : 0;
		close_fd(&job.pin_fd);
		return r;
	}
	r = submit_job(keeper, &job);
	if (r < 0) {
		close_fd(&job.pin_fd);
		return r;
	}
	*socket_fd = -1;
	*ret_waits = true;
	return 0;
}

/* Likewise, for any socket. The address is `length` of the request's bytes. */
static int connect_socket(struct keeper *keeper, const struct request *request, const char *bytes, uint32_t length,
			  int *socket_fd, bool *ret_waits)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(int);
	int domain;

	if (length > sizeof(address))
		return -EINVAL;
	if (getsockopt(*socket_fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
		return -errno;
	if (domain == AF_UNIX)
		return connect_local(keeper, request, bytes, length, socket_fd, ret_waits);
	memcpy(&address, bytes, length);
	return start_connect(&keeper->connects, request->head->op_id, socket_fd, (const struct sockaddr *)&address,
			     length, ret_waits);
}

void tell_answers(struct keeper *keeper)
{
	struct sg_keeper_reply *head = &keeper->answers.head;

	head->op = SG_KEEPER_CONNECT;
	head->flags = SG_KEEPER_ANSWERED;
	reply(keeper, &keeper->answers, sizeof(*head) + head->length, -1);
	head->length = 0;
}

/* The caller goes on at once; that the engine can forget the call is told it later, with others. */
static void answer(struct keeper *keeper, uint64_t call_id, uint64_t op_id, int result)
{
	struct seccomp_notif_resp response = {.id = call_id, .error = result};
	struct sg_keeper_reply *head = &keeper->answers.head;

	/* A caller that died needs no answer. */
	(void)ioctl(keeper->listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &response);
	keeper->answers.op_ids[head->length / sizeof(op_id)] = op_id;
	head->length += sizeof(op_id);
	if (head->length == sizeof(keeper->answers.op_ids))
		tell_answers(keeper);
}

void handle_connect(struct keeper *keeper, struct request *request)
{
	const struct sg_keeper_request *head = request->head;
	cleanup_close int socket_fd = take_fd(request->packet, 0);
	bool answers = (head->flags & SG_KEEPER_ANSWER) && keeper->listener_fd >= 0;
	uint32_t skipped = head->flags & SG_KEEPER_ANSWER ? sizeof(uint64_t) : 0;
	bool waits = false;
	uint64_t call_id;
	int r;

	if (socket_fd < 0 || head->length < skipped)
		r = -EBADF;
	else
		r = connect_socket(keeper, request, request->bytes + skipped, head->length - skipped, &socket_fd, &waits);
	if (waits)
		return;
	if (answers && head->length >= skipped) {
		memcpy(&call_id, request->bytes, sizeof(call_id));
		answer(keeper, call_id, head->op_id, r);
	} else {
		reply_result(keeper, head->op, head->op_id, r, -1);
	}
}

void handle_listener(struct keeper *keeper, struct request *request)
{
	close_fd(&keeper->listener_fd);
	keeper->listener_fd = take_fd(request->packet, 0);
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

/* The port that a socket of the internet is bound to, 0 for none; -1 for a socket of another family. */
static int local_port(int socket_fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_storage room;
	} address = {0};
	socklen_t size = sizeof(address);

	if (getsockname(socket_fd, &address.any, &size) < 0)
		return 0;
	if (address.any.sa_family == AF_INET)
		return ntohs(address.v4.sin_port);
	return address.any.sa_family == AF_INET6 ? ntohs(address.v6.sin6_port) : -1;
}

static bool is_listed(int port, const struct request *request)
{
	struct sg_port_range range;

	for (uint32_t at = 0; at + sizeof(range) <= request->head->length; at += sizeof(range)) {
		memcpy(&range, request->bytes + at, sizeof(range));
		if (range.first <= port && port <= range.last)
			return true;
	}
	return false;
}

/*
 * An address that an earlier connect left behind looks like a bound one, but the kernel picks another port then: looked at
 * before and after, and ended when it is none of the listed.
 */
static int start_listening(int socket_fd, const struct request *request)
{
	int port = local_port(socket_fd);

	if (port >= 0 && !is_listed(port, request))
		return -EACCES;
	if (listen(socket_fd, (int)request->head->mode) < 0)
		return -errno;
	if (port >= 0 && !is_listed(local_port(socket_fd), request)) {
		shutdown(socket_fd, SHUT_RDWR);
		return -EACCES;
	}
	return 0;
}

void handle_listen(struct keeper *keeper, struct request *request)
{
	cleanup_close int socket_fd = take_fd(request->packet, 0);
	int r = socket_fd < 0 ? -EBADF : start_listening(socket_fd, request);

	reply_result(keeper, request->head->op, request->head->op_id, r, -1);
}
