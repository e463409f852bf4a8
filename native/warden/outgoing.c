// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "outgoing.h"
#include "wire.h"

#define ERESTARTSYS 512 /* the kernel's own: the call is made again, or ends with EINTR, as the signal's action says */

struct outgoing {
	struct msghdr message;
	struct iovec vector;
	struct sockaddr_storage name;
	int flags;
	int pin_fd;
	int fds[SG_MAX_SENT_FDS];
	unsigned int fd_count;
	bool restarts;
	char bytes[]; /* control messages, then the data */
};

size_t put_rights(void *control, const int *fds, unsigned int fd_count)
{
	struct cmsghdr header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};

	header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
	memset(control, 0, CMSG_SPACE(sizeof(int) * fd_count));
	memcpy(control, &header, sizeof(header));
	memcpy((char *)control + CMSG_LEN(0), fds, sizeof(int) * fd_count);
	return CMSG_SPACE(sizeof(int) * fd_count);
}

socklen_t name_pin(int pin_fd, struct sockaddr_storage *ret_name)
{
	struct sockaddr_un *name = (struct sockaddr_un *)ret_name;

	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	snprintf(name->sun_path, sizeof(name->sun_path), "/proc/self/fd/%d", pin_fd);
	return sizeof(*name);
}

static int duplicate(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* Its own descriptors, in place of those that end with the request. */
static bool take_descriptors(struct outgoing *outgoing, int pin_fd, const int *fds, unsigned int fd_count)
{
	struct msghdr *message = &outgoing->message;
	char *rights = outgoing->bytes + message->msg_controllen - CMSG_SPACE(sizeof(int) * fd_count);

	outgoing->pin_fd = duplicate(pin_fd);
	if (pin_fd >= 0 && outgoing->pin_fd < 0)
		return false;
	if (pin_fd >= 0)
		message->msg_namelen = name_pin(outgoing->pin_fd, &outgoing->name);
	for (unsigned int i = 0; i < fd_count; i++) {
		outgoing->fds[i] = duplicate(fds[i]);
		if (outgoing->fds[i] < 0)
			return false;
		outgoing->fd_count++;
	}
	if (fd_count > 0)
		put_rights(rights, outgoing->fds, fd_count);
	return true;
}

struct outgoing *copy_outgoing(const struct msghdr *message, int flags, int pin_fd, const int *fds,
			       unsigned int fd_count, bool restarts)
{
	const struct iovec *data = message->msg_iov;
	struct outgoing *outgoing = malloc(sizeof(*outgoing) + message->msg_controllen + data->iov_len);

	if (outgoing == NULL)
		return NULL;
	*outgoing = (struct outgoing){.message = *message, .flags = flags, .pin_fd = -1, .restarts = restarts};
	memcpy(&outgoing->name, message->msg_name, message->msg_namelen);
	memcpy(outgoing->bytes, message->msg_control, message->msg_controllen);
	memcpy(outgoing->bytes + message->msg_controllen, data->iov_base, data->iov_len);
	outgoing->vector = (struct iovec){outgoing->bytes + message->msg_controllen, data->iov_len};
	outgoing->message.msg_name = message->msg_namelen > 0 ? &outgoing->name : NULL;
	outgoing->message.msg_control = outgoing->bytes;
	outgoing->message.msg_iov = &outgoing->vector;
	if (take_descriptors(outgoing, pin_fd, fds, fd_count))
		return outgoing;
	free_outgoing(outgoing);
	return NULL;
}

int send_outgoing(struct outgoing *outgoing, int socket_fd, int flags)
{
	ssize_t sent = sendmsg(socket_fd, &outgoing->message, outgoing->flags | flags | MSG_NOSIGNAL);

	return sent < 0 ? -errno : (int)sent;
}

int outgoing_result(const struct outgoing *outgoing, int result)
{
	return result == -EINTR && outgoing->restarts ? -ERESTARTSYS : result;
}

void free_outgoing(struct outgoing *outgoing)
{
	close_fd(&outgoing->pin_fd);
	for (unsigned int i = 0; i < outgoing->fd_count; i++)
		close_fd(&outgoing->fds[i]);
	free(outgoing);
}
