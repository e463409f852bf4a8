// SPDX-License-Identifier: Apache-2.0
/* The keeper sends messages whose destination was judged. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "keeper.h"
#include "outgoing.h"

/* A request for a send, taken apart. Its parts lie in the request. */
struct send {
	struct sg_keeper_send head;
	struct msghdr message;
	struct iovec vector;
	struct sockaddr_storage name;
	char control[SG_SEND_CONTROL_LIMIT + CMSG_SPACE(sizeof(int) * SG_MAX_SENT_FDS)];
	int socket_fd; /* owned by the request's handler, like the next */
	int fds[SG_MAX_SENT_FDS];
	unsigned int fd_count;
	int pin_fd; /* the keeper's pin keeps it; -1: none */
};

static int take_apart(struct keeper *keeper, const struct request *request, struct send *send)
{
	const char *bytes = request->bytes + sizeof(send->head);
	struct msghdr *message = &send->message;

	if (request->head->length < sizeof(send->head))
		return -EINVAL;
	memcpy(&send->head, request->bytes, sizeof(send->head));
	if (send->head.name > SG_SEND_NAME_LIMIT || send->head.control > SG_SEND_CONTROL_LIMIT ||
	    send->head.data > SG_SEND_DATA_LIMIT ||
	    request->head->length != sizeof(send->head) + send->head.name + send->head.control + send->head.data)
		return -EINVAL;

	memcpy(&send->name, bytes, send->head.name);
	message->msg_namelen = send->head.name;
	if (send->head.pin != 0) {
		struct pin *pin = find_pin(&keeper->pins, send->head.pin);

		if (pin == NULL || !pin->exists)
			return -EBADF;
		send->pin_fd = pin->fd;
		message->msg_namelen = name_pin(pin->fd, &send->name);
	}
	if (message->msg_namelen > 0)
		message->msg_name = &send->name;
	memcpy(send->control, bytes + send->head.name, send->head.control);
	message->msg_controllen = send->head.control;
	if (send->fd_count > 0)
		message->msg_controllen += put_rights(send->control + send->head.control, send->fds, send->fd_count);
	message->msg_control = send->control;
	send->vector = (struct iovec){(char *)bytes + send->head.name + send->head.control, send->head.data};
	message->msg_iov = &send->vector;
	message->msg_iovlen = 1;
	return 0;
}

/* Whether a call on the socket waits for room, and whether what interrupts it lets it be made again. socket(7). */
static bool may_wait(const struct send *send, bool *ret_restarts)
{
	struct timeval timeout = {0};
	socklen_t size = sizeof(timeout);
	int flags = fcntl(send->socket_fd, F_GETFL);

	if ((send->head.flags & MSG_DONTWAIT) || flags < 0 || (flags & O_NONBLOCK))
		return false;
	*ret_restarts = getsockopt(send->socket_fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, &size) < 0 ||
			(timeout.tv_sec == 0 && timeout.tv_usec == 0);
	return true;
}

/* Returns the bytes sent, a negative errno, or -EINPROGRESS when the reply comes later. */
static int send_message(struct keeper *keeper, const struct request *request, struct send *send)
{
	struct job job = {.kind = JOB_SEND, .op_id = request->head->op_id, .fd = send->socket_fd, .pin_fd = -1};
	ssize_t sent = sendmsg(send->socket_fd, &send->message, (int)send->head.flags | MSG_DONTWAIT | MSG_NOSIGNAL);
	bool restarts = false;
	int r;

	if (sent >= 0)
		return (int)sent;
	if ((errno != EAGAIN && errno != EINTR) || !may_wait(send, &restarts))
		return -errno;
	job.message = copy_outgoing(&send->message, (int)send->head.flags, send->pin_fd, send->fds, send->fd_count,
				    restarts);
	if (job.message == NULL)
		return -ENOMEM;
	r = submit_job(keeper, &job);
	if (r < 0) {
		free_outgoing(job.message);
		return r;
	}
	send->socket_fd = -1;
	return -EINPROGRESS;
}

static void reply_bytes(struct keeper *keeper, uint64_t op_id, int result)
{
	struct sg_keeper_reply message = {.op = SG_KEEPER_SEND,
					  .op_id = op_id,
					  .error = result < 0 ? result : 0,
					  .flags = result < 0 ? 0 : (uint32_t)result};

	reply(keeper, &message, sizeof(message), -1);
}

void handle_send(struct keeper *keeper, struct request *request)
{
	struct send send = {.socket_fd = take_fd(request->packet, 0), .pin_fd = -1};
	int r;

	for (unsigned int i = 1; i < request->packet->fd_count; i++)
		send.fds[send.fd_count++] = take_fd(request->packet, i);
	r = send.socket_fd < 0 ? -EBADF : take_apart(keeper, request, &send);
	if (r == 0)
		r = send_message(keeper, request, &send);
	close_fd(&send.socket_fd);
	for (unsigned int i = 0; i < send.fd_count; i++)
		close_fd(&send.fds[i]);
	if (send.head.pin != 0) {
		struct pin *pin = find_pin(&keeper->pins, send.head.pin);

		if (pin != NULL)
			release_pin(pin);
	}
	if (r != -EINPROGRESS)
		reply_bytes(keeper, request->head->op_id, r);
}

void reply_sent(struct keeper *keeper, struct job *job)
{
	reply_bytes(keeper, job->op_id, outgoing_result(job->message, job->result));
	free_outgoing(job->message);
}
