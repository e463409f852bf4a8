// SPDX-License-Identifier: Apache-2.0
/*
 * Bench programs about connect(2) to 127.0.0.1.
 *   listen                    takes and closes connections on a port that it prints, until it is killed
 *   backlog                   prints a port that answers no more connects, and waits
 *   connect PORT COUNT        connects and closes COUNT times, prints nanoseconds each
 *   on-behalf PORT COUNT      the same under a filter whose supervisor, written in C, connects for it: copies the
 *                             address, duplicates the socket, compares, connects, answers
 *   pending PORT THREADS      THREADS threads that connect; prints a line when all are about to, and waits
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../native/kernel.h"

#define STACK_SIZE (64u << 10)

static struct sockaddr_in local_port(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* Returns a listening socket and prints its port. */
static int make_listener(int backlog, struct sockaddr_in *ret_address)
{
	struct sockaddr_in address = local_port(0);
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, backlog) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return -1;
	*ret_address = address;
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

static int take_all(void)
{
	struct sockaddr_in address;
	int listener = make_listener(4096, &address);

	while (listener >= 0) {
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0)
			close(fd);
	}
	return 1;
}

static int take_none(void)
{
	struct sockaddr_in address;
	int listener = make_listener(0, &address);

	for (int i = 0; listener >= 0 && i < 4; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

		connect(fd, (struct sockaddr *)&address, sizeof(address));
	}
	pause();
	return 1;
}

/* Closes with a reset: so many connections in TIME_WAIT would use up the local ports. */
static int connect_once(const struct sockaddr_in *address)
{
	const struct linger reset = { .l_onoff = 1 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? -1 : connect(fd, (const struct sockaddr *)address, sizeof(*address));

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));

	close(fd);
	return r;
}

static int measure(int port, long count)
{
	struct sockaddr_in address = local_port(port);
	struct timespec from, to;

	for (long i = 0; i < count / 10; i++)
		if (connect_once(&address) < 0)
			return 1;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < count; i++)
		if (connect_once(&address) < 0)
			return 1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.1f\n", ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)count);
	return 0;
}

/* Notifies of connect(2). Returns the listener. */
static int install_filter(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
}

static int connect_for(const struct seccomp_notif *notif, int listener, int port)
{
	struct sockaddr_storage address;
	size_t length = notif->data.args[2] > sizeof(address) ? sizeof(address) : notif->data.args[2];
	struct iovec local = { &address, length }, remote = { (void *)notif->data.args[1], length };
	const struct sockaddr_in *ip = (const struct sockaddr_in *)&address;
	static const int options[3] = { SO_DOMAIN, SO_TYPE, SO_PROTOCOL };
	int kind[3], pidfd, fd, r;

	if (process_vm_readv((pid_t)notif->pid, &local, 1, &remote, 1, 0) != (ssize_t)length)
		return -EFAULT;
	pidfd = (int)syscall(NR_pidfd_open, notif->pid, PIDFD_THREAD);
	fd = (int)syscall(NR_pidfd_getfd, pidfd, (int)notif->data.args[0], 0);
	close(pidfd);
	if (fd < 0)
		return -EBADF;
	for (int i = 0; i < 3; i++) {
		socklen_t size = sizeof(int);

		getsockopt(fd, SOL_SOCKET, options[i], &kind[i], &size);
	}
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &notif->id) < 0 || kind[0] != AF_INET ||
	    ip->sin_addr.s_addr != htonl(INADDR_LOOPBACK) || ntohs(ip->sin_port) != port)
		r = -ECONNREFUSED;
	else
		r = connect(fd, (const struct sockaddr *)&address, (socklen_t)length) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static void supervise(int listener, int port)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		struct pollfd look = { .fd = listener, .events = POLLIN };

		if (epoll_wait(epoll, &event, 1, -1) < 1)
			continue;
		if (!(event.events & EPOLLIN))
			return;
		do {
			struct seccomp_notif notif;
			struct seccomp_notif_resp response = { 0 };

			memset(&notif, 0, sizeof(notif));
			if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) < 0)
				continue;
			response.id = notif.id;
			response.error = connect_for(&notif, listener, port);
			ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
		} while (poll(&look, 1, 0) > 0 && (look.revents & POLLIN));
	}
}

/* The descriptor table is shared until the child has its filter, which is how the listener gets here. */
static int measure_on_behalf(int port, long count)
{
	int ready[2], listener = -1;
	pid_t child;

	if (pipe(ready) < 0)
		return 1;
	child = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
	if (child == 0) {
		listener = install_filter();
		if (write(ready[1], &listener, sizeof(listener)) != sizeof(listener) || syscall(SYS_unshare, CLONE_FILES) < 0)
			_exit(1);
		close(listener);
		_exit(measure(port, count) || fflush(stdout));
	}
	if (read(ready[0], &listener, sizeof(listener)) != sizeof(listener))
		return 1;
	supervise(listener, port);
	waitpid(child, NULL, 0);
	return 0;
}

static struct {
	atomic_long started;
	struct sockaddr_in address;
} pending;

static void *wait_for_connect(void *unused)
{
	atomic_fetch_add(&pending.started, 1);
	connect_once(&pending.address);
	return unused;
}

static int keep_pending(int port, long threads)
{
	pthread_attr_t attributes;

	pending.address = local_port(port);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	for (long i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, &attributes, wait_for_connect, NULL) != 0)
			return 1;
	}
	while (atomic_load(&pending.started) < threads)
		usleep(1000);
	puts("pending");
	fflush(stdout);
	pause();
	return 0;
}

int main(int argc, char **argv)
{
	const char *act = argc > 1 ? argv[1] : "";

	if (strcmp(act, "listen") == 0)
		return take_all();
	if (strcmp(act, "backlog") == 0)
		return take_none();
	if (argc == 4 && strcmp(act, "connect") == 0)
		return measure(atoi(argv[2]), atol(argv[3]));
	if (argc == 4 && strcmp(act, "on-behalf") == 0)
		return measure_on_behalf(atoi(argv[2]), atol(argv[3]));
	if (argc == 4 && strcmp(act, "pending") == 0)
		return keep_pending(atoi(argv[2]), atol(argv[3]));
	return 2;
}
