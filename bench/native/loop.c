// SPDX-License-Identifier: Apache-2.0
/* The engine's loop written wholly in C, as the floor that the TypeScript loop is measured against. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../native/kernel.h"

/* Pins the calling thread. */
int bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* Takes the listener that the caller sends on `socket`, and lets it go on. Returns it or -errno. */
int bench_take_listener(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec vector = { &byte, 1 };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int listener = -1;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
		return -errno;
	memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return listener;
}

int bench_go(int socket)
{
	return write(socket, "g", 1) == 1 ? 0 : -errno;
}

/* Compares a path with a rule's prefix, as the handler in the bench does. */
static int is_refused(uint32_t pid, uint64_t address)
{
	static const char prefix[] = "/secret/";
	char path[256];
	size_t length = 4096 - (address & 4095);
	struct iovec local = { path, sizeof(path) }, remote = { (void *)address, sizeof(path) };
	ssize_t count;

	if (length < sizeof(path))
		remote.iov_len = length;
	count = process_vm_readv((pid_t)pid, &local, 1, &remote, 1, 0);
	return count < 0 || (count >= (ssize_t)sizeof(prefix) - 1 && memcmp(path, prefix, sizeof(prefix) - 1) == 0);
}

/* Answers every notification until the last task is gone. Returns how many. */
long bench_loop(int listener, int read_path)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	long answered = 0;

	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		struct epoll_event ready;
		struct pollfd look = { .fd = listener, .events = POLLIN };

		if (epoll_wait(epoll, &ready, 1, -1) < 1)
			continue;
		if (!(ready.events & EPOLLIN))
			break;
		do {
			struct seccomp_notif notif;
			struct seccomp_notif_resp response = { 0 };

			memset(&notif, 0, sizeof(notif));
			if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) < 0)
				continue;
			response.id = notif.id;
			if (read_path && is_refused(notif.pid, notif.data.args[0]))
				response.error = -EPERM;
			else
				response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
			if (read_path && ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notif.id) < 0)
				continue;
			ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
			answered++;
		} while (poll(&look, 1, 0) > 0 && (look.revents & POLLIN));
	}
	close(epoll);
	close(listener);
	return answered;
}
