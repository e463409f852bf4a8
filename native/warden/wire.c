// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

void close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

int send_packet(int socket_fd, const void *bytes, size_t size, const int *fds, unsigned int fd_count, int flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * SG_MAX_FDS)];
	} control;
	struct iovec data = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

	if (fd_count > SG_MAX_FDS)
		return -EINVAL;
	if (fd_count > 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * fd_count);
	}
	for (;;) {
		if (sendmsg(socket_fd, &message, flags | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

/* The room for credentials may hold descriptors instead: what is too many is closed. */
static void take_descriptors(struct cmsghdr *header, size_t count, struct packet *packet)
{
	for (size_t i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
		if (packet->fd_count < SG_MAX_SENT_FDS) {
			packet->fds[packet->fd_count++] = fd;
		} else {
			close(fd);
			packet->cut = true;
		}
	}
}

static void take_control(struct msghdr *message, struct packet *packet)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
	     header = CMSG_NXTHDR(message, header)) {
		size_t length = header->cmsg_len - CMSG_LEN(0);

		if (header->cmsg_level != SOL_SOCKET)
			continue;
		if (header->cmsg_type == SCM_RIGHTS) {
			take_descriptors(header, length / sizeof(int), packet);
		} else if (header->cmsg_type == SCM_CREDENTIALS && length >= sizeof(struct ucred)) {
			struct ucred sender;

			memcpy(&sender, CMSG_DATA(header), sizeof(sender));
			packet->pid = sender.pid;
		}
	}
}

int receive_packet(int socket_fd, void *buffer, size_t size, int flags, struct packet *ret_packet)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * SG_MAX_SENT_FDS) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec data = {.iov_base = buffer, .iov_len = size};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t received;

	received = recvmsg(socket_fd, &message, flags | MSG_CMSG_CLOEXEC);
	if (received < 0)
		return -errno;

	memset(ret_packet, 0, sizeof(*ret_packet));
	memset(ret_packet->fds, -1, sizeof(ret_packet->fds));
	take_control(&message, ret_packet);
	ret_packet->size = (size_t)received;
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		ret_packet->cut = true;
	if (ret_packet->cut)
		close_packet(ret_packet);
	return received > 0;
}

void close_packet(struct packet *packet)
{
	for (unsigned int i = 0; i < packet->fd_count; i++)
		close_fd(&packet->fds[i]);
	packet->fd_count = 0;
}

int take_fd(struct packet *packet, unsigned int index)
{
	int fd;

	if (index >= SG_MAX_SENT_FDS)
		return -1;
	fd = packet->fds[index];
	packet->fds[index] = -1;
	return fd;
}

int make_socket_pair(int pair[2], bool credentials)
{
	int on = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	if (credentials && setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) {
		int error = -errno;

		close_fd(&pair[0]);
		close_fd(&pair[1]);
		return error;
	}
	return 0;
}

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
