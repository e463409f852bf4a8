// SPDX-License-Identifier: Apache-2.0
/* Packets with descriptors, and the few descriptor calls that Node has no function for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../abi.h"
#include "../kernel.h"

/* Sends one packet without waiting. Returns 0 or -errno; the caller keeps `fds`. */
int sg_send(int fd, const void *bytes, uint32_t length, const int *fds, uint32_t fd_count)
{
	char control[CMSG_SPACE(sizeof(int) * SG_MAX_SENT_FDS)];
	struct iovec vector = { (void *)bytes, length };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
	struct cmsghdr *header;
	ssize_t count;

	if (fd_count > SG_MAX_SENT_FDS)
		return -EINVAL;
	if (fd_count > 0) {
		memset(control, 0, CMSG_SPACE(sizeof(int) * fd_count));
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
	}
	do {
		count = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (count < 0 && errno == EINTR);
	return count < 0 ? -errno : 0;
}

/* Makes a SOCK_SEQPACKET pair with room for a large plan. Returns 0 or -errno. */
int sg_channel_pair(int32_t *ret_fds)
{
	int size = 1 << 20;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	/* Best effort: the kernel caps it at net.core.wmem_max. */
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	ret_fds[0] = fds[0];
	ret_fds[1] = fds[1];
	return 0;
}

/* A second descriptor for the same file. Returns it or -errno. */
int sg_duplicate(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

/* An eventfd for waking or for `go`. Returns it or -errno. */
int sg_event_create(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* Adds one to an eventfd. Returns 0 or -errno. */
int sg_event_signal(int fd)
{
	uint64_t one = 1;

	return write(fd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
}

/* A sealed, read-only memory file with these bytes. Returns it or -errno; the caller owns it. */
int sg_memory_file(const void *bytes, uint32_t length)
{
	int fd = memfd_create("sandgate-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int error;

	if (fd < 0)
		return -errno;
	if (write(fd, bytes, length) == (ssize_t)length &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	error = errno ? -errno : -EIO;
	close(fd);
	return error;
}

/* Credentials of the peer of a Unix socket: pid, uid, gid. Returns 0 or -errno. unix(7). */
int sg_peer_credentials(int fd, uint32_t *ret_ids)
{
	struct ucred ids;
	socklen_t size = sizeof(ids);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ids, &size) < 0)
		return -errno;
	ret_ids[0] = (uint32_t)ids.pid;
	ret_ids[1] = ids.uid;
	ret_ids[2] = ids.gid;
	return 0;
}
